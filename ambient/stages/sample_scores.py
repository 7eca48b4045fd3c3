"""Stage: a score of each sample of a run, by a scorer that needs the image alone."""

from __future__ import annotations

from pathlib import Path

from ambient.evaluation import scorers
from ambient.evaluation.scoring import in_shards, noted
from ambient.jobs.state import State
from ambient.jobs.stopping import patiently
from ambient.specs import ScorerSpec
from ambient.storage.arrays import merged, open_arrays
from ambient.storage.files import write_arrays


def main(spec: ScorerSpec, record, *, samples: Path, detector: Path | None, given: Path | None, state: State,
         out: Path) -> None:
    """`out` gets the scores `score`, float64 (seeds, num_samples), of the last snapshot's samples."""
    images = max(open_arrays(samples).items(), key=lambda item: int(item[0]))[1]
    flat = merged(images)
    score = scorers.KINDS[spec.kind].scorer(spec, noted(spec, given, detector, record))
    found = in_shards(spec, "score", len(flat), lambda part: {"score": score(flat[part])["score"]}, state)
    if found is None:
        return
    patiently(write_arrays, out, {"score": found["score"].astype("float64").reshape(images.shape[:2])})
    record.facts |= {"samples": len(flat)}
