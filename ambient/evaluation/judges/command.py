"""Judge `command`: a program of one's own, such as one that asks a local vision model."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import numpy as np
from PIL import Image

from ambient.evaluation.judges import Answer, answered, one_answer
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
            return [one_answer(spec, one[0], partial(answer, program, Path(folder), *one, spec.seconds))
                    for one in zip(captions, first, second, strict=True)]

    return ask


def answer(program: Path, folder: Path, caption: str, first: np.ndarray, second: np.ndarray,
           seconds: float) -> Answer:
    """One call."""
    paths = [folder / "A.png", folder / "B.png"]
    for path, image in zip(paths, (first, second), strict=True):
        Image.fromarray(image.transpose(1, 2, 0).squeeze()).save(path)
    # A session of its own, so that what the program has started ends with it: else its pipes stay open.
    with subprocess.Popen([program, caption, *paths], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, errors="replace", start_new_session=True) as running:
        try:
            said, errors = running.communicate(timeout=seconds)
        except BaseException as error:
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise ValueError(f"{program.name}: gave no answer in {seconds:g} s for {caption!r}") from None
    if running.returncode:
        raise ValueError(f"{program.name}: failed with status {running.returncode} for the caption "
                         f"{caption!r}: {errors.strip()[-200:]}")
    return answered(said.strip(), program.name)
