"""Which sampling seeds the scores of a run's snapshots are of: all of the last one and of the best one, the
first of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from ambient.specs import DetectorSpec, EvaluationSpec
from ambient.specs.strict import build

NEAR = 1e-3  # relative, by which distances of the same samples may differ between two machines


def wrong_seeds(scores: Sequence[Mapping], spec: EvaluationSpec, best_by: Mapping | None) -> str | None:
    """What is wrong with the seeds of scores {nimg, seed, value}; None where nothing is.

    `best_by`: the specification of the detector that found the best snapshot while samples were drawn, where
    one did. Where these scores are by the same detector, they tell whether that snapshot is the best.
    """
    seeds: dict[int, list[int]] = {}
    values: dict[int, list[float]] = {}
    for one in scores:
        seeds.setdefault(one["nimg"], []).append(one["seed"])
        values.setdefault(one["nimg"], []).append(one["value"])
    if not seeds:
        return "there are no scores"
    last, few = max(seeds), len(spec.first_seeds)
    further = [nimg for nimg, got in seeds.items() if nimg != last and len(got) > few]
    for nimg, got in seeds.items():
        count = len(spec.seeds) if nimg == last or nimg in further[:best_by is not None] else few
        if got != list(spec.seeds[:count]):
            return f"snapshot {nimg}: seeds are {got}, allowed: {list(spec.seeds[:count])}"
    if best_by is None or build(DetectorSpec, best_by, "best_by") != spec.detector:
        return None
    means = {nimg: fmean(found[:few]) for nimg, found in values.items()}
    chosen, best = (further or [last])[0], min(means, key=means.get)
    if means[chosen] > means[best] * (1 + NEAR):
        return (f"snapshot {chosen} was taken for the best, with {means[chosen]:.6g} by the first seeds; "
                f"{best} has {means[best]:.6g}")
    return None
