"""Figure `gallery`: the same images, clean and under each corruption."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ambient.specs import FigureSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Spec(FigureSpec):
    """`corruptions` are shown, a row each."""

    STAGE: ClassVar[str] = "galleries"
    READS: ClassVar[tuple[str, ...]] = ("corruptions", "names", "images")
    CAPTION: ClassVar[str] = "The same images, clean and under each corruption."


def reads(files, name: str, entry) -> dict:
    """The study's clean dataset, for display."""
    return {"data": files.images(entry.study)}


def draw(spec: Spec, data: Path) -> Figure:
    """A row of images for each corruption, the clean ones first (Figures 11a, 11b, 12)."""
    from ambient.data.datasets import read
    from ambient.report.captions import title_of
    from ambient.report.drawing import strips
    from ambient.report.noising import chosen, corrupted

    dataset = read(data)
    rows = chosen(spec, dataset)
    lines = [("clean", dataset.images[rows]),
             *((n, corrupted(c, dataset, rows)) for n, c in zip(spec.names, spec.corruptions, strict=True))]
    return strips(lines, spec.images, title_of(spec))
