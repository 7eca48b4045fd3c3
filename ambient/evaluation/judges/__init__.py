"""Judges of pairs of images: one file a kind, called as `kind` says in the YAML of `judges`.

A file has
- `Spec`, a `JudgeSpec`: settings of its own with their ranges, and what it needs;
- `judge(spec, given)`: a function from captions (N) and the first and the second image of each, uint8
  (N, C, H, W), to N `Answer`s. `given` is the file of the model that `Spec.MODEL` asks, or the program that
  `Spec.GIVEN` is, or None.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ambient.specs import JudgeSpec

KINDS = JudgeSpec.KINDS
FIRST, SECOND, NONE = "first", "second", "none"
UNCLEAR = "unclear"  # it said something else
DAY = 86400  # seconds, the longest that an answer is waited for
MOST = 2**20  # bytes of an answer
CHOICES = (FIRST, SECOND, NONE, UNCLEAR)


class Answer(NamedTuple):
    """Which image is preferred, of `CHOICES`, and what the judge said, as it came."""

    choice: str
    said: str


class Unclear(ValueError):
    """`said` names neither an image nor none."""

    def __init__(self, who: str, said: str, allowed: str = "a text that ends in A, B or none") -> None:
        super().__init__(f"{who} answered {said[-80:]!r}, allowed: {allowed}")
        self.said = said


def answered(said: str, who: str) -> Answer:
    """The answer of a judge whose last word is A, B or none. Raises `Unclear` for any other one."""
    words = said.split()
    last = words[-1].strip(".\"'*_`()[]").lower() if words else ""
    choice = {"a": FIRST, "b": SECOND, "none": NONE}.get(last)
    if choice is None:
        raise Unclear(who, said)
    return Answer(choice, said)


def one_answer(spec: JudgeSpec, caption: str, ask: Callable[[], Answer]) -> Answer:
    """What `ask` gives. Raises `ValueError` with the caption for an unclear answer, unless some may be."""
    try:
        return ask()
    except Unclear as error:
        if not spec.unclear:
            raise ValueError(f"{error}, asked about the caption {caption!r}; setting unclear of the judge "
                             "lets a share of such pairs pass, which are counted apart") from None
        return Answer(UNCLEAR, error.said)
