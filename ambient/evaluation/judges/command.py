"""Judge `command`: a program of one's own, such as one that asks a local vision model."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import numpy as np
from PIL import Image

from ambient.evaluation.judges import Answer, answered
from ambient.specs import JudgeSpec
from ambient.specs.strict import require


@dataclass(frozen=True, kw_only=True)
class Spec(JudgeSpec):
    """It is called as `program CAPTION A.png B.png`, and what it prints ends in A, B or none."""

    GIVEN: ClassVar[str] = "a program that judges"
    RATE: ClassVar[float] = 0.5
    SHARD: ClassVar[int] = 10

    seconds: float = 300.0  #: after which a call counts as failed

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.seconds > 0, "seconds", self.seconds, "> 0")


def judge(spec: Spec, given: Path) -> Callable[[Sequence[str], np.ndarray, np.ndarray], list[Answer]]:
    """The program's answers, one call a pair. Raises `ValueError` where it fails or says something else."""
    program = given.resolve()
    if not os.access(program, os.X_OK):
        raise ValueError(f"{given}: is no program that may be run, allowed: an executable file (chmod +x)")

    def ask(captions: Sequence[str], first: np.ndarray, second: np.ndarray) -> list[Answer]:
        with TemporaryDirectory() as folder:
            return [answer(program, Path(folder), *one, spec.seconds)
                    for one in zip(captions, first, second, strict=True)]

    return ask


def answer(program: Path, folder: Path, caption: str, first: np.ndarray, second: np.ndarray,
           seconds: float) -> Answer:
    """One call."""
    paths = [folder / "A.png", folder / "B.png"]
    for path, image in zip(paths, (first, second), strict=True):
        Image.fromarray(image.transpose(1, 2, 0).squeeze()).save(path)
    try:
        done = subprocess.run([program, caption, *paths], capture_output=True, text=True, timeout=seconds,
                              check=False)
    except subprocess.TimeoutExpired:
        raise ValueError(f"{program.name}: gave no answer in {seconds:g} s for {caption!r}") from None
    if done.returncode:
        raise ValueError(f"{program.name}: failed with status {done.returncode} for the caption {caption!r}: "
                         f"{done.stderr.strip()[-200:]}")
    return answered(done.stdout.strip(), program.name)
