"""Stage: what known images score by a detector: held-out good ones, bad ones, and both mixed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ambient.data.datasets import read
from ambient.evaluation.features import collected, moments_and_some
from ambient.evaluation.landmarks import drawn, rows
from ambient.jobs.state import State
from ambient.jobs.stopping import patiently
from ambient.specs import LandmarksSpec
from ambient.storage.arrays import selected
from ambient.storage.files import write_text

SMALLEST = 4  # good images: two to hold out, and two to compare them with


def main(spec: LandmarksSpec, record, *, data: Path, mixture: Path, detector: Path, state: State,
         out: Path) -> None:
    """`out` gets the distances (CSV) of a study's held-out good images, of the bad ones, and of both mixed.

    `data` is the whole clean dataset; the bad images are those that `mixture` says are corrupted.
    Raises `ValueError` for fewer than SMALLEST good images, or fewer than 2 bad ones.
    """
    dataset = read(data)
    clean, mixed = dataset.images, read(mixture).shown([dataset])
    if mixed.corrupted is None or mixed.corrupted.sum() < 2:
        raise ValueError(f"{mixture}: has fewer than 2 corrupted images, landmarks need 2 or more")
    if len(clean) < SMALLEST:
        raise ValueError(f"{data}: has {len(clean)} images, landmarks need {SMALLEST} or more: half of them "
                         "are held out")
    others = selected(mixed.images, mixed.corrupted == 1)
    draws = drawn(spec, len(clean), len(others))
    good, bad = (np.unique(np.concatenate(some)) for some in zip(*draws, strict=True))
    sets = {"good": clean, "bad": selected(others, bad)}
    found = collected(spec.detector, detector, sets, "landmarks", state)
    if found is None:
        return
    whole, of_good = moments_and_some(found["good"], good)
    of_bad = np.concatenate(list(found["bad"]))
    table = rows(spec, whole, ((of_good[np.searchsorted(good, held)], of_bad[np.searchsorted(bad, worse)])
                               for held, worse in draws), float(mixed.corrupted.mean()))
    patiently(write_text, out, table.to_csv(index=False, lineterminator="\n", float_format="%.6g"))
    record.facts |= {"good_images": len(clean), "bad_images": len(others)}
