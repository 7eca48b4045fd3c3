"""sigma_min of a mixture's samples by a noise classifier: where their curves of P(corrupted) cross."""

from __future__ import annotations

import numpy as np

from ambient.annotation.classifier import Classifier
from ambient.annotation.levels import Inputs, Levels
from ambient.annotation.trajectories import CHUNK, PROTOCOLS, Dense, first_crossing
from ambient.data.datasets import Dataset
from ambient.jobs import ranks
from ambient.jobs.shards import collect
from ambient.jobs.state import State
from ambient.specs import AnnotationSpec
from ambient.storage.arrays import Computed
from ambient.training.hardware import compile_for, device
from ambient.training.points import Points

UNSURE = 32  # images that the statistics name
PASSES = 2**20  # of the network, about, that are saved together and lost together; at most 16 chunks


def classify(asked: Dense, data: Dataset, points: Points, state: State) -> np.ndarray | None:
    """P(corrupted) of every corrupted image along the levels; None but on the first rank."""
    rows = np.flatnonzero(data.corrupted)
    step = CHUNK * min(max(PASSES // (CHUNK * asked.spec.num_sigmas * asked.spec.num_trials), 1), 16)
    parts = [rows[first:first + step] for first in range(0, len(rows), step)]
    compile_for(asked.classifier.network.model, len(rows) * asked.spec.num_sigmas // (CHUNK * ranks.size()))
    pieces = [(f"trajectories-{k * step}", len(part)) for k, part in enumerate(parts)]
    shards = collect("annotate", state, pieces,
                     lambda k: {"p": asked.of(points.fixed(parts[k], asked.spec.seed).numpy(),
                                              data.ids[parts[k]])})
    if shards is None:
        return None
    found = np.empty((len(rows), asked.spec.num_sigmas), np.float32)
    for part, shard in zip(range(0, len(rows), step), shards, strict=True):
        found[part:part + step] = shard["p"]
    return found


def unsure(sigmas: np.ndarray, curves: np.ndarray, ids: np.ndarray, epsilon: float) -> list[dict]:
    """The images whose sigma_min hangs most on the threshold, for people; the most unsure first.

    from: where P(corrupted) is below 0.5 + 1.5 epsilon for the first time; to: below 0.5 + 0.5 epsilon, or
    the last level. Those with the largest ratio of the two are meant; of equal ones the first in order.
    """
    first, last = (first_crossing(sigmas, curves, part * epsilon, "last") for part in (1.5, 0.5))
    most = np.argsort(-last / first, kind="stable")[:UNSURE]
    return [{"id": int(ids[i]), "from": float(first[i]), "to": float(last[i])}
            for i in most if last[i] > first[i]]


def crossings(spec: AnnotationSpec, mixture: Dataset, inputs: Inputs, state: State) -> Levels | None:
    """sigma_min of each corrupted sample, or where `spec.OF_MEAN` that of their mean curve for all.

    None but on the first rank. Raises `ValueError` without a classifier.
    """
    if inputs.classifier is None:
        raise ValueError(f"annotation method {spec.method} needs --classifier")
    processor, points = device(), Points(mixture, inputs.latents)
    asked = PROTOCOLS[spec.protocol](spec, Classifier(inputs.classifier, processor), processor)
    if (p := classify(asked, mixture, points, state)) is None:
        return None
    rows = np.flatnonzero(mixture.corrupted)
    corrupted = Computed((len(rows), *points.shape), np.float32,
                         lambda index: points.fixed(rows[index], spec.seed).numpy())
    curves = asked.curves(p, corrupted)
    if spec.OF_MEAN:
        curves = curves.mean(axis=0, keepdims=True)
    sigma_min = np.broadcast_to(asked.crossing(curves), len(corrupted))
    crossed = sigma_min[np.isfinite(sigma_min)]
    about = {"sigma_min_lag": asked.lag(crossed.mean())} if len(crossed) else {}
    never = (curves >= 0.5 + spec.epsilon).all(axis=-1)
    about |= {"never_crossed": int(np.broadcast_to(never, len(corrupted)).sum()),
              "last_level": float(asked.sigmas[-1])}
    if not spec.OF_MEAN:
        about["unsure"] = unsure(asked.sigmas, curves, mixture.ids[rows], spec.epsilon)
    return Levels(sigma_min, about=about)
