"""Verdicts on pairs of images, each from two answers: one for each order of the pair."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ambient.diffusion import randomness
from ambient.evaluation.judges import FIRST, NONE, SECOND, UNCLEAR, Answer

Ask = Callable[[Sequence[str], np.ndarray, np.ndarray], list[Answer]]
SIDES = ("run", "than")  # whose image a side of a pair is


def judged(ask: Ask, seed: int, keys: Sequence[tuple[str, int, int]], captions: Sequence[str],
           images: np.ndarray, others: np.ndarray) -> list[dict]:
    """A record of each pair: its key and caption, both answers in the order in which they were asked, and
    the verdict.

    images and others, uint8 (N, C, H, W), are the sides `run` and `than`. A fair coin by (seed, key) says
    which of them is shown first in the first question; in the second one they are exchanged. The verdict is a
    side where both answers name it, else `none`; `unclear` where one of them is. keys: (what, sampling seed,
    number).
    """
    turned = np.array([randomness.numpy_generator("judge", seed, *key).random() < 0.5 for key in keys])
    records = [{"key": list(key), "caption": caption, "answers": []}
               for key, caption in zip(keys, captions, strict=True)]
    for flip in (turned, ~turned):
        mask = flip[:, None, None, None]
        first, second = np.where(mask, others, images), np.where(mask, images, others)
        for record, swapped, answer in zip(records, flip, ask(captions, first, second), strict=True):
            shown = SIDES[::-1] if swapped else SIDES
            named = {FIRST: shown[0], SECOND: shown[1]}.get(answer.choice, answer.choice)
            record["answers"].append({"shown": list(shown), "said": answer.said, "preferred": named})
    for record in records:
        record["verdict"] = verdict(*(answer["preferred"] for answer in record["answers"]))
    return records


def verdict(first: str, second: str) -> str:
    """What two answers say together: the side that both name, `none`, or `unclear` where one of them is."""
    return UNCLEAR if UNCLEAR in (first, second) else first if first == second else NONE


def agreement(records: Sequence[dict]) -> float:
    """The share of pairs whose side `run`, known to be right, is preferred, with half of the ties.

    A pair of which the judge said nothing clear counts as wrong.
    """
    points = {"run": 1.0, NONE: 0.5, "than": 0.0, UNCLEAR: 0.0}
    return sum(points[record["verdict"]] for record in records) / len(records)
