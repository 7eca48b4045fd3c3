"""Figure `histogram`: how many pixels of a study's images have each grey level."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ambient.specs import FigureSpec


@dataclass(frozen=True, kw_only=True)
class Spec(FigureSpec):
    """All images of `study` count."""

    CAPTION: ClassVar[str] = "How many pixels have each grey level."

    bins: int = 16  #: bars


def reads(files, name: str, entry) -> dict:
    """The study's clean dataset."""
    return {"data": files.images(entry.study)}


def draw(spec: Spec, data: Path):
    """A bar for each range of grey levels."""
    from ambient.data.datasets import read
    from ambient.report.drawing import plt

    figure, axis = plt.subplots()
    axis.hist(read(data).images.ravel(), spec.bins)
    return figure
