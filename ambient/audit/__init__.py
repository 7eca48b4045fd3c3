"""The audit: walk every number back to raw data. No Snakemake, no torch, nothing read outside the tree.

Levels: 0 present, a well-formed manifest; 1 intact, the artefact has the digest that its manifest says;
2 closed, so has everything it was made from, back to raw data with a pinned or verified checksum, by
known code; 3 re-derived, built again from what it was made from and equal cell by cell (tables, figures,
metrics, annotation summaries), of its own run, seeds and detector; 4 re-executed, its job run again with
the same result (`--rerun`). A signature covers every file of a folder. docs/provenance.md says what
each of these sees and what it does not.
"""
