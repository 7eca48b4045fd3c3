"""Judges of pairs of images: one file a kind, called as `kind` says in the YAML of `judges`.

A file has
- `Spec`, a `JudgeSpec`: settings of its own with their ranges, and what it needs;
- `judge(spec, given)`: a function from captions (N) and the first and the second image of each, uint8
  (N, C, H, W), to N `Answer`s. `given` is the file of the model that `Spec.MODEL` asks, or the program that
  `Spec.GIVEN` is, or None.
"""

from __future__ import annotations

from typing import NamedTuple

from ambient.specs import JudgeSpec

KINDS = JudgeSpec.KINDS
FIRST, SECOND, NONE = "first", "second", "none"
CHOICES = (FIRST, SECOND, NONE)


class Answer(NamedTuple):
    """Which image is preferred, of `CHOICES`, and what the judge said, as it came."""

    choice: str
    said: str


def answered(said: str, who: str) -> Answer:
    """The answer of a judge whose last word is A, B or none. Raises `ValueError` for any other one."""
    words = said.split()
    choice = {"a": FIRST, "b": SECOND, "none": NONE}.get(words[-1].strip(".\"'").lower() if words else "")
    if choice is None:
        raise ValueError(f"{who} answered {said[-80:]!r}, allowed: a text that ends in A, B or none")
    return Answer(choice, said)
