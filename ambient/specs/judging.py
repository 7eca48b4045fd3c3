"""Specifications of judges: which of two images of one caption is preferred."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from ambient.specs.kinds import Kinds, OfKinds
from ambient.specs.strict import later, require


@dataclass(frozen=True)
class JudgeSpec(OfKinds):
    """A judge of pairs: what is told of it, whatever its kind.

    Each pair is asked about twice, in both orders. Which of them comes first is drawn by the pair's key. The
    verdict is what both answers say, and a tie where they differ.
    """

    KINDS: ClassVar[Kinds] = Kinds("ambient.evaluation.judges")
    MODEL: ClassVar[bool] = False  # asks a model of images and texts of the workflow, by `model`
    GIVEN: ClassVar[str | None] = None  # what `path` is, of a kind that asks a program from outside
    RATE: ClassVar[float] = 200.0  # questions/s that one process asks
    SHARD: ClassVar[int] = 200  # pairs that are saved together, and lost together

    kind: str  #: a file of `ambient/evaluation/judges/`: `alignment`, `command`, `endpoint`
    path: str | None = None  #: a local program, for the kind that asks one
    #: name in `datasets`: real images with captions, of which it is known which is right
    real: str | None = None
    checks: int = 0  #: pairs of real images that it is asked about: one with its own caption, another one
    pairs: int | None = None  #: at most so many pairs of samples, the first ones; null: all
    seed: int = 0  #: of the order of each pair
    each: int = 1  #: samples of a caption, one after the other; set by itself
    #: share of the pairs of which it may say neither A nor B nor none. Such pairs are kept and counted apart,
    #: not as ties. 0: the first one ends the job
    unclear: float = later(0.0)

    def __post_init__(self) -> None:
        require(self.GIVEN is not None or self.path is None, "path", self.path,
                f"null: kind {self.kind} asks no program")
        require(self.checks >= 0, "checks", self.checks, ">= 0")
        require((self.checks > 0) == (self.real is not None), "real", self.real,
                "a name in datasets where checks > 0, else null")
        require(self.pairs is None or self.pairs > 0, "pairs", self.pairs, "> 0, or null")
        require(self.each > 0, "each", self.each, ">= 1")
        require(0 <= self.unclear < 1, "unclear", self.unclear, "[0, 1)")

    def portable(self) -> JudgeSpec:
        """This specification without the local path, which says nothing of the result."""
        return dataclasses.replace(self, path=None)
