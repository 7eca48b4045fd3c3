"""Stage: how far samples are from their nearest training images, and from the nearest unseen ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ambient.data.datasets import Dataset, read, to_float
from ambient.data.ranking import places_of_best
from ambient.data.scores import Scores
from ambient.evaluation.features import checked_features
from ambient.evaluation.neighbours import BATCH, Features, compared, distances, parts_of
from ambient.jobs import ranks
from ambient.jobs.shards import Shards, collect
from ambient.jobs.state import State
from ambient.jobs.stopping import patiently
from ambient.specs import NeighboursSpec
from ambient.storage.arrays import Array, latest, part, selected
from ambient.storage.files import write_text
from ambient.training.hardware import device


def pixels(images: np.ndarray) -> np.ndarray:
    """Pixels in [-1, 1], (N, C H W)."""
    return to_float(images).reshape(len(images), -1)


def features_of(spec: NeighboursSpec, detector: Path | None) -> Features:
    """What distances are of: a detector's features, or pixels. Raises `ValueError` where both are meant."""
    if (detector is None) != (spec.detector is None):
        raise ValueError(f"--detector: got {detector}, allowed: "
                         + ("none, distances are of pixels" if detector else "the weights of a detector"))
    if spec.detector is None:
        return pixels
    found = checked_features(spec.detector, detector)

    @torch.no_grad()
    def features(images: np.ndarray) -> np.ndarray:
        return found(images).float().cpu().numpy()

    return features


def groups(spec: NeighboursSpec, path: Path, data: Dataset, scores: Path | None) -> dict[str, np.ndarray]:
    """Name -> rows of all images, and of the best ones where they are meant; `path` is the dataset's."""
    every = {"all": np.arange(len(data.ids))}
    if spec.best is None:
        return every
    if scores is None:
        raise ValueError("best needs --scores and --unseen-scores, those of the images")
    found = Scores.read(scores).of(data.ids).score
    return every | {"good": places_of_best(found, data.labels, spec.best, path)}


def of_samples(drawn: Sequence[Array], features: Features, state: State) -> np.ndarray:
    """The numbers (S, D) of the samples of all runs, one run after the other; every rank gets all of them.

    They are saved by shards, and images of one are in memory.
    """
    parts = [(images, slice(first, min(first + BATCH, len(images)))) for images in drawn
             for first in range(0, len(images), BATCH)]
    pieces = [(f"samples-{number}", rows.stop - rows.start) for number, (_, rows) in enumerate(parts)]

    def make(number: int) -> dict[str, np.ndarray]:
        images, rows = parts[number]
        return {"features": features(images[rows])}

    collect("neighbours: samples", state, pieces, make)
    return np.concatenate([one["features"] for one in Shards(state, pieces)])


def main(spec: NeighboursSpec, record, *, samples: list[Path], data: Path, unseen: Path, state: State,
         out: Path, scores: Path | None = None, unseen_scores: Path | None = None,
         detector: Path | None = None) -> None:
    """`out` gets a row for each run and group of images (CSV)."""
    where, features = device(), features_of(spec, detector)
    train, test = read(data), read(unseen)
    ours, its = groups(spec, data, train, scores), groups(spec, unseen, test, unseen_scores)
    first = [part(latest(path), 0) for path in samples]
    drawn = [selected(images, np.arange(min(spec.num_samples, len(images)))) for images in first]
    every, table = of_samples(drawn, features, state), []
    ends = np.cumsum([len(one) for one in drawn])[:-1]
    for name, seen in ours.items():
        other = its[name]
        size = min(len(seen), len(other))
        found = [distances(every, images, rows, parts_of(ids, size, spec.seed, stream), features,
                                    where, f"{stream}-{name}", state)
                 for stream, images, rows, ids in (("training", train.images, seen, train.ids[seen]),
                                                   ("unseen", test.images, other, test.ids[other]))]
        if not ranks.first():
            continue
        found = [np.split(one, ends) for one in found]
        for run, one, to_train, to_test in zip(spec.runs, drawn, *found, strict=True):
            table.append({"run": run, "images": name, "samples": len(one), "of": size}
                         | compared(to_train, to_test))
    if not ranks.first():
        return
    rows = pd.DataFrame(table).sort_values("run", key=lambda runs: runs.map(spec.runs.index), kind="stable")
    patiently(write_text, out, rows.to_csv(index=False, lineterminator="\n", float_format="%.6g"))
    record.facts |= {"samples": len(every), "training_images": len(train.ids), "unseen_images": len(test.ids)}
