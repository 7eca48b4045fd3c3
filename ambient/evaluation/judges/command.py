"""Judge `command`: a program of one's own, such as one that asks a local vision model."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import numpy as np
from PIL import Image

from ambient.evaluation.judges import DAY, MOST, Answer, answered, one_answer
from ambient.specs import JudgeSpec
from ambient.specs.strict import later, require
from ambient.storage.files import sha256


@dataclass(frozen=True, kw_only=True)
class Spec(JudgeSpec):
    """It is called as `program CAPTION A.png B.png`, and what it prints ends in A, B or none."""

    GIVEN: ClassVar[str] = "a program that judges"
    RATE: ClassVar[float] = 0.5
    SHARD: ClassVar[int] = 10

    seconds: float = 300.0  #: after which a call counts as failed
    sha256: str | None = later(None)  #: of the program; any other one is refused. The audit asks for it

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.seconds <= DAY, "seconds", self.seconds, f"(0, {DAY}]")


def judge(spec: Spec, given: Path) -> Callable[[Sequence[str], np.ndarray, np.ndarray], list[Answer]]:
    """The program's answers, one call a pair. Raises `ValueError` where it fails or says something else."""
    program = given.resolve()
    if not (program.is_file() and os.access(program, os.X_OK)):
        raise ValueError(f"{given}: is no program that may be run, allowed: an executable file (chmod +x)")
    if (found := sha256(program)) != (spec.sha256 or found):
        raise ValueError(f"{given}: sha256 is {found}, the judge's setting sha256 is {spec.sha256}")

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
    try:
        running = subprocess.Popen([program, caption, *paths], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ValueError(f"{program.name}: can't be started for the caption {caption[:80]!r} ({why}), "
                         "allowed: a program, or a script whose first line names an interpreter "
                         "that is there (#!/bin/sh)") from None
    with running:
        try:
            said, errors = printed(running, seconds)
        except BaseException as error:
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            if not isinstance(error, TimeoutError):
                raise
            raise ValueError(f"{program.name}: gave no answer in {seconds:g} s for {caption!r}") from None
    if running.returncode:
        raise ValueError(f"{program.name}: failed with status {running.returncode} for the caption "
                         f"{caption!r}: {errors.strip()[-200:]}")
    return answered(said.strip(), program.name)


def printed(running: subprocess.Popen, seconds: float) -> tuple[str, str]:
    """What a program prints until it ends, and the last of its errors.

    Raises `TimeoutError` for one that does not end in time, `ValueError` for one that prints too much.
    """
    ends, text = time.monotonic() + seconds, {running.stdout: b"", running.stderr: b""}
    with selectors.DefaultSelector() as pipes:
        for pipe in text:
            pipes.register(pipe, selectors.EVENT_READ)
        while pipes.get_map():
            ready = pipes.select(max(0.0, ends - time.monotonic()))
            for one, _ in ready:
                if not (part := os.read(one.fd, MOST)):
                    pipes.unregister(one.fileobj)
                text[one.fileobj] = (text[one.fileobj] + part)[-MOST - 1:]
            if len(text[running.stdout]) > MOST:
                name = Path(running.args[0]).name
                raise ValueError(f"{name}: printed more than {MOST:,} bytes, allowed: a text that ends in A, "
                                 "B or none")
            if not ready or time.monotonic() > ends:
                raise TimeoutError
    try:
        running.wait(max(0.0, ends - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise TimeoutError from None
    said, errors = (one.decode(errors="replace") for one in text.values())
    return said, errors
