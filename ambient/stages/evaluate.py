"""Stage: the distance of each snapshot's samples, for each sampling seed, to the reference moments."""

from __future__ import annotations

from pathlib import Path

from ambient.evaluation.features import moments
from ambient.evaluation.frechet import frechet_distance, stored
from ambient.jobs.stopping import say
from ambient.specs import EvaluationSpec
from ambient.storage.arrays import open_arrays, part
from ambient.storage.files import read_arrays, write_arrays, write_json


def main(spec: EvaluationSpec, record, *, samples: Path, detector: Path, reference: Path,
         out: Path, moments_out: Path) -> None:
    """`out` gets the raw scores, one for each snapshot and sampling seed, and their protocol (JSON).

    `moments_out` gets what they were computed from, so that the audit can compute them again without
    the detector: `<nimg>/<seed>/mean` (D,) and `<nimg>/<seed>/covariance` (D, D), float64.

    Only equal numbers of samples are comparable: a small sample is biased upwards (by roughly a
    constant over the number), so that number is part of the protocol and of every table.
    """
    target = stored(read_arrays(reference), str(reference))
    scores, kept, shape = [], {}, None
    snapshots = sorted(open_arrays(samples).items(), key=lambda item: int(item[0]))
    for nimg, images in snapshots:
        shape = images.shape
        seeds = spec.seeds_at(last=nimg == snapshots[-1][0])
        for seed, drawn in zip(seeds, [part(images, k) for k in range(len(images))], strict=True):
            found = moments(spec.detector, detector, drawn, f"evaluate {nimg}")
            kept[f"{nimg}/{seed}/mean"] = found.mean
            kept[f"{nimg}/{seed}/covariance"] = found.covariance
            scores.append({"nimg": int(nimg), "seed": seed, "value": frechet_distance(found, target)})
    if remark := spec.detector.remark(shape[1]):
        say(f"evaluate: samples: {remark}")
    write_arrays(moments_out, kept)
    write_json(out, {"metric": spec.metric, "scores": scores, "num_samples": shape[1],
                     "reference_images": target.count} | spec.detector.recorded())
