"""Stage: the distance of each snapshot's samples, for each sampling seed, to the reference moments."""

from __future__ import annotations

from pathlib import Path

from ambient.evaluation.features import moments
from ambient.evaluation.frechet import frechet_distance, stored
from ambient.jobs.state import State
from ambient.jobs.stopping import patiently, say
from ambient.specs import EvaluationSpec
from ambient.storage.arrays import Array, open_arrays, part
from ambient.storage.files import read_arrays, write_arrays, write_json


def main(spec: EvaluationSpec, record, *, samples: Path, detector: Path, reference: Path, state: State,
         out: Path, moments_out: Path) -> None:
    """`out` gets the raw scores, one for each snapshot and sampling seed, and their protocol (JSON).

    `moments_out` gets what they were computed from, so that the audit can compute them again without
    the detector: `<nimg>/<seed>/mean` (D,) and `<nimg>/<seed>/covariance` (D, D), float64.

    Only equal numbers of samples are comparable: a small sample is biased upwards (by roughly a
    constant over the number), so that number is part of the protocol and of every table.
    """
    target = stored(read_arrays(reference), str(reference))
    sets = samples_by_seed(spec, samples)
    found = moments(spec.detector, detector, {f"{nimg}-{seed}": one for (nimg, seed), one in sets.items()},
                    "evaluate", state)
    if found is None:
        return
    count = len(next(iter(sets.values())))
    scores, kept = [], {}
    for (nimg, seed), one in zip(sets, found.values(), strict=True):
        kept |= {f"{nimg}/{seed}/mean": one.mean, f"{nimg}/{seed}/covariance": one.covariance}
        scores.append({"nimg": nimg, "seed": seed, "value": frechet_distance(one, target)})
    if remark := spec.detector.remark(count):
        say(f"evaluate: samples: {remark}")
    patiently(write_arrays, moments_out, kept)
    patiently(write_json, out, {"metric": spec.metric, "scores": scores, "num_samples": count,
                                "reference_images": target.count} | spec.detector.recorded())


def samples_by_seed(spec: EvaluationSpec, path: Path) -> dict[tuple[int, int], Array]:
    """(images that a snapshot had seen, sampling seed) -> its samples, in this order.

    Raises `ValueError` naming the file for samples of other seeds than those of the specification.
    """
    found, drawn = {}, {int(nimg): images for nimg, images in open_arrays(path).items()}
    for nimg, images in sorted(drawn.items()):
        try:
            seeds = spec.seeds_of(len(images), last=nimg == max(drawn))
        except ValueError as error:
            raise ValueError(f"{path}: snapshot {nimg}: {error}") from None
        found |= {(nimg, seed): part(images, k) for k, seed in enumerate(seeds)}
    return found
