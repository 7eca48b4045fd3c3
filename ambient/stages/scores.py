"""Stage: a score of each image of a dataset, and where the scorer has them of its patches.

The scorers are files of `ambient.evaluation.scorers`.
"""

from __future__ import annotations

from pathlib import Path

from ambient.data.datasets import read
from ambient.evaluation import scorers
from ambient.evaluation.scoring import in_shards, noted, require_scores, scores_of
from ambient.jobs import ranks
from ambient.jobs.state import State
from ambient.jobs.stopping import patiently, say
from ambient.specs import ScorerSpec
from ambient.storage.files import write_text


def main(spec: ScorerSpec, record, *, data: Path, detector: Path | None, given: Path | None,
         state: State, out: Path, table_out: Path) -> None:
    """`out` gets the scores, with those of each patch; `table_out` the same without them, as CSV."""
    given = noted(spec, given, detector, record)
    dataset, kind = read(data), scorers.KINDS[spec.kind]
    if spec.PER_IMAGE:
        score = kind.scorer(spec, given)
        found = in_shards(spec, "scores", len(dataset.ids), lambda part: score(dataset.images[part]), state)
    else:
        found = kind.score(spec, dataset, given, state)
    if found is None and not ranks.first():
        return
    require_scores(spec, found, len(dataset.ids))
    scores = scores_of(dataset.ids, found)
    worst, best = scores.score.argmin(), scores.score.argmax()
    say(f"scores: {len(scores.ids):,} images, from {scores.score[worst]:.4g} (image {scores.ids[worst]}) to "
        f"{scores.score[best]:.4g} (image {scores.ids[best]})")
    patiently(scores.write, out)
    patiently(write_text, table_out, scores.text(dataset))
    record.facts |= {"images": len(scores.ids), "patch_px": list(scores.patch_means)}
