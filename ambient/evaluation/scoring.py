"""Scores of images in shards: the ranks share them out, and a kill costs the shard at work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ambient.data.scores import EACH, MEAN, Scores, by_side, means
from ambient.jobs.shards import collect
from ambient.jobs.state import State
from ambient.specs import ScorerSpec

Arrays = Mapping[str, np.ndarray]


def noted(spec: ScorerSpec, given: Path | None, detector: Path | None, record,
          model: Path | None = None) -> Path | None:
    """The file that a scorer reads: of a detector, of a model of texts, or from outside, which is noted.

    Raises `ValueError` where it is missing, where the scorer reads none, or where it is another one.
    """
    if spec.path is not None:  # a specification is recorded, and a local path must not be
        raise ValueError(f"path: got {spec.path!r}, allowed: null here; give the file as --given")
    for option, path, wanted in (("given", given, spec.GIVEN),
                                 ("detector", detector, "the weights of a detector" if spec.ASKS else None),
                                 ("model", model, "a model of images and texts" if spec.MODEL else None)):
        if path is None and wanted is not None:
            raise ValueError(f"a scorer of kind {spec.kind} needs --{option}, {wanted}")
        if path is not None and wanted is None:
            raise ValueError(f"--{option}: got {path}, allowed: none, a scorer of kind {spec.kind} reads no "
                             "such file")
    if given is not None:
        digest = record.external("given", given, spec.GIVEN)
        if spec.sha256 not in (None, digest):
            raise ValueError(f"{given}: sha256 is {digest}, the configuration's sha256 is {spec.sha256}")
    return given or detector or model


def in_shards(spec: ScorerSpec, name: str, count: int, score: Callable[[slice], Arrays],
              state: State) -> Arrays | None:
    """The arrays of `count` images, which `score` gives for a slice of them; None but on the first rank."""
    parts = [slice(first, min(first + spec.shard, count)) for first in range(0, count, spec.shard)]
    pieces = [(f"scores-{part.start}", part.stop - part.start) for part in parts]

    def piece(k: int) -> Arrays:
        arrays = score(parts[k])
        require_scores(spec, arrays, pieces[k][1])
        return arrays

    found = collect(name, state, pieces, piece)
    if found is None:
        return None
    shards = list(found)
    return {key: np.concatenate([shard[key] for shard in shards]) for key in shards[0]}


def require_scores(spec: ScorerSpec, arrays: object, count: int) -> None:
    """Raise `ValueError` for what can't be the arrays of `count` images, naming the scorer's file."""
    function = "scorer" if spec.PER_IMAGE or spec.CAPTIONED else "score"
    where, rows = f"{ScorerSpec.KINDS.file(spec.kind)}: {function} gave", count
    if spec.GROUPED:
        rows = count // spec.each
    if not isinstance(arrays, Mapping) or "score" not in arrays:
        got = f"a dict of {list(arrays)}" if isinstance(arrays, Mapping) else f"a {type(arrays).__name__}"
        raise ValueError(f"{where} {got} for {count} images, allowed: a dict of arrays, 'score' ({rows},) "
                         "among them")
    for name in ("score", *(name for name in arrays if name.startswith(EACH))):
        values, wanted = arrays[name], f"({rows},)" if name == "score" else f"({rows}, rows, columns)"
        sizes = values.shape if isinstance(values, np.ndarray) else ()
        if sizes[:1] != (rows,) or len(sizes) != (1 if name == "score" else 3):
            got = f"an array {sizes}" if isinstance(values, np.ndarray) else f"a {type(values).__name__}"
            raise ValueError(f"{where} {name!r} as {got} for {count} images, allowed: an array {wanted}")
        finite = np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
        if not finite.all():
            raise ValueError(f"{where} {name!r} of row {int(np.argmin(finite))} of {rows} with NaN or "
                             "infinity, allowed: finite numbers")


def scores_of(ids: np.ndarray, arrays: Arrays) -> Scores:
    """The table of what a scorer gave: where it scored each patch, their mean is a column, too."""
    each = {side: values.astype(np.float32) for side, values in by_side(arrays, EACH).items()}
    mean = by_side(arrays, MEAN) | {side: means(values) for side, values in each.items()}
    return Scores(ids, arrays["score"].astype(np.float64), dict(sorted(mean.items())), each)
