"""From what a source's reader gives to the images of a dataset: which are taken, and their size."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
from PIL import Image

from ambient.data import squares
from ambient.data.datasets import joined
from ambient.data.raw import Raw
from ambient.data.readers import Reading
from ambient.data.texts import Texts
from ambient.diffusion import randomness
from ambient.jobs.progress import Progress
from ambient.specs import DatasetSpec
from ambient.specs.data import SUBSET_SEED
from ambient.storage.arrays import Computed


def resized(image: np.ndarray, spec: DatasetSpec) -> np.ndarray:
    """An image (C, H, H), padded by 0 on each side, then resized as `squares.resized` does."""
    pad, goal = spec.padding, spec.resolution
    image = np.pad(image, ((0, 0), (pad, pad), (pad, pad)))
    if image.shape[-1] == goal:
        return image
    return np.stack([squares.resized(Image.fromarray(plane), goal) for plane in image])


def subset(labels: np.ndarray, classes: tuple[int, ...] | None, most: int | None,
           allowed: np.ndarray | None = None, part: tuple[float, ...] | None = None) -> np.ndarray:
    """The ids kept, rising: all of `classes`, or `most` drawn by id (raw data are often sorted by class).

    `allowed`: the ids that may be kept; None: all. Subsets of one source are nested. `part`: only ids with
    from <= u(id) < to. The draw u is the id's own, so parts of a source that do not overlap share no image.
    """
    ids = np.arange(len(labels)) if allowed is None else allowed
    ids = ids if part is None else in_part(ids, part)
    ids = ids if classes is None else ids[np.isin(np.asarray(labels)[ids], classes)]
    if most is None or most >= len(ids):
        return ids
    return np.sort(ids[np.argsort(randomness.uniform("subset", SUBSET_SEED, ids), kind="stable")[:most]])


def in_part(ids: np.ndarray, part: tuple[float, ...]) -> np.ndarray:
    """Those of the ids whose draw u(id) in [0, 1) lies in [from, to)."""
    u = randomness.uniform("part", 0, ids)
    return ids[(part[0] <= u) & (u < part[1])]


def take(reading: Reading, rows: np.ndarray, spec: DatasetSpec) -> Computed | None:
    """The images of these rows, prepared when they are asked for: raw images are read one at a time.

    None of a list of captions.
    """
    if reading.images is None:
        return None
    side, progress = reading.side + 2 * spec.padding, Progress("prepare", len(rows))
    if side != spec.resolution:
        how = "enlarged, and blurred by that," if side < spec.resolution else "reduced"
        reading.converted[f"{how} from {side} to {spec.resolution} pixels"] = len(rows)

    def images(index: np.ndarray) -> np.ndarray:
        if len(index) and index[0] > progress.done:  # those before are there already
            progress.skip_to(int(index[0]))
        made = np.empty((len(index), spec.channels, spec.resolution, spec.resolution), np.uint8)
        for place, image in enumerate(reading.images(rows[index])):
            made[place] = resized(image, spec)
            progress.update(int(index[place]) + 1)
        return made

    return Computed((len(rows), spec.channels, spec.resolution, spec.resolution), np.uint8, images)


class Learnt:
    """What reading images tells beyond their pixels: what was done to them, the digests of their files."""

    def __init__(self, reading: Reading, raw: Raw) -> None:
        self.reading, self.raw = reading, raw
        self.mark()

    def mark(self) -> None:
        """Count from here on."""
        self.converted, self.files = Counter(self.reading.converted), len(self.raw.sums)

    def since(self) -> dict:
        """What was learnt since this was called last, for `adopt`."""
        found = {"converted": dict(self.reading.converted - self.converted),
                 "sums": dict(islice(self.raw.sums.items(), self.files, None))}
        self.mark()
        return found

    def adopt(self, learnt: dict) -> None:
        """Take over what an earlier attempt learnt of files that are the same still."""
        self.reading.converted.update(learnt["converted"])
        self.raw.sums = learnt["sums"] | self.raw.sums
        self.mark()


def report(reading: Reading, rows: np.ndarray, spec: DatasetSpec) -> dict:
    """What was taken, from which classes, what was converted and what left out: for the manifest."""
    labels, every = reading.labels[rows], len(reading.labels)
    left = Counter(reading.left_out)
    allowed = np.arange(every) if reading.rows is None else reading.rows
    if spec.part is not None:
        left["images of another part of the source"] = len(allowed) - len(in_part(allowed, spec.part))
        allowed = in_part(allowed, spec.part)
    chosen = len(allowed)
    if spec.classes is not None:
        chosen = int(np.isin(reading.labels[allowed], spec.classes).sum())
        left["images of other classes"] = len(allowed) - chosen
    left["images not drawn (max_images)"] = chosen - len(rows)
    classes, counts = np.unique(labels[labels >= 0], return_counts=True)
    return {"images": len(rows), "classes": len(classes), "labels_from": reading.labels_from,
            "class_names": {str(i): reading.names[i] for i in classes.tolist() if i in reading.names},
            "class_images": dict(zip(map(str, classes.tolist()), counts.tolist(), strict=True)),
            "raw_images": every, "raw_side": reading.side, "converted": dict(+reading.converted),
            "left_out": dict(+left)}


def captions_of(reading: Reading, captions: Texts | None) -> dict:
    """What is to be said of the captions of images that were taken; nothing where the source has none."""
    if captions is None:
        return {}
    return {"captions": len(captions), "captions_from": reading.captions_from}


def chosen_of(reading: Reading, rows: np.ndarray) -> dict:
    """Names of files, scores and captions of the images that were taken, where the source has them."""
    if reading.rows is None:
        return {}
    place = np.searchsorted(reading.rows, rows)
    scores = None if reading.scores is None else reading.scores[place]
    captions = None if reading.captions is None else Texts.of(reading.captions[i] for i in place)
    return {"names": joined([reading.files[i] for i in place]) if reading.files else None, "scores": scores,
            "captions": captions}
