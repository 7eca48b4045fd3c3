"""Stage: make a mixture, in which all but a clean fraction of the images is corrupted, once.

The clean version of a corrupted image is not in the file: stages that read a mixture can't see it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ambient import corruptions, randomness
from ambient.datasets import Dataset, read, to_float, to_uint8, write
from ambient.progress import Progress
from ambient.spec import MixtureSpec


def is_clean(spec: MixtureSpec, ids: np.ndarray) -> np.ndarray:
    """Whether each image stays clean: u(seed, id) < clean_fraction.

    A function of (seed, id) alone, so the clean sets of two fractions are nested.
    """
    return randomness.uniform("clean", spec.seed, ids) < spec.clean_fraction


def mix(spec: MixtureSpec, data: Dataset) -> Dataset:
    """The mixture. Raises `ValueError` where no image stays clean."""
    if data.corrupted is not None:
        raise ValueError("the dataset is a mixture already: its corrupted images would count as clean")
    clean = is_clean(spec, data.ids)
    if not clean.any():
        raise ValueError(f"clean_fraction {spec.clean_fraction} leaves none of {len(clean)} images "
                         "clean: raise it, or give more images")
    if spec.op is None:
        return Dataset(data.images[clean], data.labels[clean], data.ids[clean],
                       np.zeros(clean.sum(), np.uint8))
    images, rows = data.images.copy(), np.flatnonzero(~clean)
    progress = Progress("corrupt", len(rows))
    for done, row in enumerate(rows, 1):
        rng = randomness.numpy_generator("corrupt", spec.seed, int(data.ids[row]))
        image = corruptions.corrupt(to_float(images[row]), rng, spec.op, spec.params)
        images[row] = to_uint8(image)
        progress.update(done)
    return Dataset(images, data.labels, data.ids, (~clean).astype(np.uint8))


def main(spec: MixtureSpec, record, *, data: Path, out: Path) -> None:
    """`out` gets the mixture."""
    if spec.op is not None:
        corruptions.validate(spec.op, spec.params)
        record.facts |= corruptions.facts(spec.op)
    mixture = mix(spec, read(data))
    write(out, mixture)
    record.facts |= {"clean": int((mixture.corrupted == 0).sum()),
                     "corrupted": int((mixture.corrupted == 1).sum())}


if __name__ == "__main__":
    from ambient import stage

    stage.run(main, MixtureSpec, inputs=("data",), outputs=("out",))
