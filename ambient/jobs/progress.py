"""Progress of long work: plain lines on standard error for logs, a small file for who looks from outside."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from ambient.jobs.stopping import say
from ambient.storage.files import write_json

EVERY = 60.0  # seconds between two lines
GLANCE = 2.0  # seconds between two writings of the file
FOLDER = Path(".state/progress")  # in the folder `results` that the job writes into

_job: list[Path] = []


def begin(target: Path) -> None:
    """Say what this process makes: its lines are called after it."""
    _job[:] = [target]


RUN_FILES = ("denoiser.safetensors", "samples.safetensors", "metrics.json")


def label(target: Path) -> str:
    """What tells a job from others of its stage, from the place of a file that it makes in a results tree.

    `results/demo/runs/ambient-blur-0.6/seed-0/denoiser.safetensors`: `ambient-blur-0.6 seed 0`.
    """
    inside = in_tree(target)[1][2:]
    if not inside:
        return ""
    last = inside[-1].removesuffix(target.suffix)
    parts = inside[:-1] if inside[-1] in RUN_FILES else [*inside[:-1], last]
    return " ".join(parts).replace("seed-", "seed ")


def in_tree(target: Path) -> tuple[Path, tuple[str, ...]]:
    """(the folder `results` above a file, the parts of its path below)."""
    parts = target.parts
    if "results" not in parts:
        return Path(), ()
    place = len(parts) - parts[::-1].index("results")
    return Path(*parts[:place]), parts[place:]


def place_of(target: Path) -> str:
    """The name of the file by which the job that makes `target` is watched."""
    return "-".join(in_tree(target)[1]) + ".json"


def file_of_job() -> Path | None:
    """The file by which this process's job is watched; None where it makes nothing in a results tree."""
    if not _job or not label(_job[0]):
        return None
    return in_tree(_job[0])[0] / FOLDER / place_of(_job[0])


def end() -> None:
    """Remove the file by which the job was watched, and the folder of such files where no other is in it."""
    if path := file_of_job():
        with suppress(OSError):
            path.unlink(missing_ok=True)
            path.parent.rmdir()


def named(stage: str) -> str:
    """A stage's name with what it makes here: `train ambient-blur-0.6 seed 0`."""
    return f"{stage} {label(_job[0])}".rstrip() if _job else stage


class Progress:
    """Images done, images/s, time left and facts: a line a minute and one at the end.

    Plain lines, not a redrawn bar: under a workflow they go to the rule's log, for `tail -f`. `of`: what is
    counted, where it is not images.
    """

    def __init__(self, stage: str, total: int, start: int = 0, of: str = "images") -> None:
        self.name, self.total, self.start, self.done, self.of = named(stage), total, start, start, of
        self.began = self.said = self.shown = time.monotonic()
        self.beside: dict[str, float] = {}  # what else the head of a workflow is told

    def update(self, done: int, **facts: float) -> None:
        """Report that `done` of `total` are finished."""
        self.done, now, ended = done, time.monotonic(), done >= self.total
        rate = (done - self.start) / max(now - self.began, 1e-9)
        if now - self.shown >= GLANCE or ended:
            self.shown = now
            self.show(done, rate)
        if now - self.said >= EVERY or ended:
            self.said = now
            left = (self.total - done) / rate if rate else float("inf")
            extra = "".join(f"  {key} {value:.4g}" for key, value in facts.items())
            eta = spoken(0.0 if ended else left)
            say(f"{self.name}: {done:,}/{self.total:,} {self.of}  {rate:,.0f}/s  ETA {eta}{extra}")

    def skip_to(self, done: int) -> None:
        """Report that the images up to `done` are there from an earlier attempt: the rate is without them."""
        self.start += done - self.done
        self.update(done)

    def show(self, done: int, rate: float) -> None:
        """Write the file that the head of a workflow reads; work does not end because that can't be."""
        if path := file_of_job():
            with suppress(OSError):
                write_json(path, {"name": self.name, "done": done, "total": self.total, "rate": rate,
                                  "time": time.time(), **self.beside})


class Aside(Progress):
    """Progress of what a job does beside its own work. It often takes seconds, of which nothing is said."""

    def __init__(self, stage: str, does: str, total: int, of: str, done: float) -> None:
        """`does`: what, in words. `done`: how much of the job's own work is done meanwhile, from 0 to 1."""
        super().__init__(stage, total, of=of)
        self.name, self.beside = f"{self.name} {does}", {"of_job": done}

    def update(self, done: int, **facts: float) -> None:
        """Report that `done` of `total` are finished; there is no line at the end."""
        if done < self.total:
            super().update(done, **facts)


def spoken(seconds: float) -> str:
    """A duration as a person says it: `40 s`, `12 min`, `3 h 20 min`, `9 days`."""
    if seconds == float("inf"):
        return "unknown"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes >= 100 * 60:
        return f"{minutes / 1440:,.0f} days"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"
