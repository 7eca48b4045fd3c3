"""Stage: make a mixture, in which all but a clean fraction of the images is corrupted, once.

The clean version of a corrupted image is not in the file: stages that read a mixture can't see it.
An operation on the whole dataset (`ambient.data.operations`) puts other images in the place of the corrupted
ones, or says which of the dataset's own count as corrupted.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from ambient.data import corruptions, operations
from ambient.data.datasets import Dataset, arrays_of, read, to_float, to_uint8, write
from ambient.data.mixtures import clean_images
from ambient.data.scores import Scores
from ambient.diffusion import randomness
from ambient.jobs.growing import Growing
from ambient.jobs.progress import Progress
from ambient.jobs.state import State
from ambient.specs import MixtureSpec
from ambient.storage.arrays import Computed


def mix(spec: MixtureSpec, data: Dataset, beside: Dataset | Scores | None = None) -> Dataset:
    """The mixture. `beside` is what an operation reads beside the dataset.

    Raises `ValueError` where no image stays clean.
    """
    if data.corrupted is not None:
        raise ValueError("the dataset is a mixture already: its corrupted images would count as clean")
    if spec.op in operations.KINDS:
        return operations.KINDS[spec.op].mix(spec, data, beside)
    clean = clean_images(spec, data.ids)
    if spec.op is None:
        return dataclasses.replace(data.taken(clean), corrupted=np.zeros(clean.sum(), np.uint8), scores=None)
    progress, before = Progress("corrupt", int((~clean).sum())), np.cumsum(~clean)

    def mixed(index: np.ndarray) -> np.ndarray:
        images = data.images[index]
        if before[index[0]] > progress.done + 1:  # those before are there already
            progress.skip_to(int(before[index[0]]))
        for place in np.flatnonzero(~clean[index]):
            rng = randomness.numpy_generator("corrupt", spec.seed, int(data.ids[index[place]]))
            image = corruptions.corrupt(to_float(images[place]), rng, spec.op, spec.params)
            images[place] = to_uint8(image)
            progress.update(int(before[index[place]]))
        return images

    images = Computed(data.images.shape, np.uint8, mixed)
    return Dataset(images, data.labels, data.ids, (~clean).astype(np.uint8), data.names,
                   captions=data.captions)


def main(spec: MixtureSpec, record, *, data: Path, state: State, out: Path, added: Path | None = None,
         scores: Path | None = None) -> None:
    """`out` gets the mixture. `added` is the dataset, `scores` are the scores that an operation reads."""
    if spec.of_pixels:
        corruptions.validate(spec.op, spec.params)
        record.facts |= corruptions.facts(spec.op)
    beside = read(added) if added else Scores.read(scores) if scores else None
    mixture = mix(spec, read(data), beside)
    if mixture.images is None:
        write(out, mixture)
    else:
        Growing(state, record.facts).write("corrupt", out, arrays_of(mixture), "images")
    record.facts |= {"clean": int((mixture.corrupted == 0).sum()),
                     "corrupted": int((mixture.corrupted == 1).sum())}
