"""Stage: a score of each sample of a run, by a scorer that needs the image alone, or its caption, too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ambient.data.datasets import read
from ambient.evaluation import scorers
from ambient.evaluation.captioned import REAL, CaptionScorer
from ambient.evaluation.scoring import in_shards, noted, require_scores
from ambient.jobs.state import State
from ambient.jobs.stopping import patiently, say
from ambient.specs import ScorerSpec
from ambient.storage.arrays import Array, latest, merged
from ambient.storage.files import write_arrays

Arrays = dict[str, np.ndarray]


def main(spec: ScorerSpec, record, *, samples: Path, detector: Path | None, given: Path | None, state: State,
         out: Path, model: Path | None = None, captions: Path | None = None,
         real: Path | None = None) -> None:
    """`out` gets the scores `score`, float64 (seeds, num_samples), of the last snapshot's samples.

    A scorer of images with captions gives further arrays of the same shape, and the same arrays of the `real`
    images, under names that begin with `real_`; beside verdicts, `prompt` is the number of each sample's
    caption among those of its list. One that scores the samples of each caption together gives
    (seeds, captions). The samples have the captions of the dataset `captions`, `spec.each` of them each.
    """
    images = latest(samples)
    flat, kind = merged(images), scorers.KINDS[spec.kind]
    file = noted(spec, given, detector, record, model)
    beside = {"model": model} if spec.ASKS and spec.MODEL else {}
    scorer = kind.scorer(spec, file, real, **beside) if spec.CAPTIONED else kind.scorer(spec, file)
    score = with_captions(spec, scorer, flat, captions, images.shape[:2]) if spec.CAPTIONED else (
        without_patches(spec, scorer, flat))
    found = in_shards(spec, "score", len(flat), score, state)
    if found is None:
        return
    arrays = {name: one.reshape(images.shape[0], -1) for name, one in found.items()}
    if spec.CAPTIONED:
        for remark in scorer.remarks(found):
            say(remark)
        arrays |= {REAL + name: one for name, one in scorer.real.items()}
        if "task" in arrays:
            arrays["prompt"] = prompts_of(captions, spec.each, images.shape[:2])
    patiently(write_arrays, out, arrays | {"score": arrays["score"].astype("float64")})
    record.facts |= {"samples": len(flat)}


def prompts_of(captions: Path, each: int, shape: tuple[int, int]) -> np.ndarray:
    """Which caption of its list each sample has, int64 (seeds, num_samples), as `of_samples` numbers them."""
    numbers = np.arange(shape[1]) // each % len(read(captions).ids)
    return np.broadcast_to(numbers, shape)


def without_patches(spec: ScorerSpec, scorer: Callable[[np.ndarray], Arrays],
                    images: Array) -> Callable[[slice], Arrays]:
    """The score of each image of a slice, without those of its patches."""
    def of(part: slice) -> Arrays:
        arrays = scorer(images[part])
        require_scores(spec, arrays, part.stop - part.start)
        return {"score": arrays["score"]}

    return of


def with_captions(spec: ScorerSpec, scorer: CaptionScorer, images: Array, captions: Path,
                  shape: tuple[int, int]) -> Callable[[slice], Arrays]:
    """The arrays of a slice of the samples (seeds x num_samples), each with its caption."""
    from ambient.data.texts import of_samples

    seeds, count = shape
    prompts = of_samples(read(captions).captions, spec.each, count) * seeds
    return lambda part: scorer(images[part], prompts[part])
