"""Stage: a score of each image of a dataset, and where the scorer has them of its patches.

The scorers are files of `ambient.evaluation.scorers`.
"""

from __future__ import annotations

from pathlib import Path

from ambient.data.datasets import read
from ambient.evaluation import scorers
from ambient.evaluation.scoring import in_shards, scores_of
from ambient.jobs.state import State
from ambient.jobs.stopping import patiently, say
from ambient.specs import ScorerSpec
from ambient.storage.files import write_text


def check_given(spec: ScorerSpec, given: Path | None, record) -> None:
    """Note the file from outside. Raises `ValueError` where it is missing, not wanted, or another one."""
    if spec.path is not None:  # a specification is recorded, and a local path must not be
        raise ValueError(f"path: got {spec.path!r}, allowed: null here; give the file as --given")
    if given is None and spec.GIVEN is not None:
        raise ValueError(f"a scorer of kind {spec.kind} needs --given, {spec.GIVEN}: set "
                         "scorers.<name>.path")
    if given is not None and spec.GIVEN is None:
        raise ValueError(f"--given: got {given}, allowed: none, a scorer of kind {spec.kind} reads no file")
    if given is not None:
        digest = record.external("given", given, spec.GIVEN)
        if spec.sha256 not in (None, digest):
            raise ValueError(f"{given}: sha256 is {digest}, the configuration's sha256 is {spec.sha256}")


def main(spec: ScorerSpec, record, *, data: Path, given: Path | None, state: State, out: Path,
         table_out: Path) -> None:
    """`out` gets the scores, with those of each patch; `table_out` the same without them, as CSV."""
    check_given(spec, given, record)
    dataset, kind = read(data), scorers.KINDS[spec.kind]
    if spec.PER_IMAGE:
        score = kind.scorer(spec, given)
        found = in_shards("scores", len(dataset.ids), lambda part: score(dataset.images[part]), state)
    else:
        found = kind.score(spec, dataset, given, state)
    if found is None:
        return
    scores = scores_of(dataset.ids, found)
    worst, best = scores.score.argmin(), scores.score.argmax()
    say(f"scores: {len(scores.ids):,} images, from {scores.score[worst]:.4g} (image {scores.ids[worst]}) to "
        f"{scores.score[best]:.4g} (image {scores.ids[best]})")
    patiently(scores.write, out)
    patiently(write_text, table_out, scores.text(dataset))
    record.facts |= {"images": len(scores.ids), "patch_px": list(scores.patch_means)}
