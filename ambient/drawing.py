"""What every figure shares: style, colours, saving with reproducible bytes, sheets of images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np

from ambient.files import atomic

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (after the backend is chosen)
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # noqa: E402

COLOURS = {"Only Clean": "#555555", "All data": "#c1432e", "Ambient-o": "#1f6fb2"}
CLEAN, CORRUPTED, OTHER = "#2c8a5a", "#c1432e", "#d28f2a"  # by origin of the data
STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
         "grid.alpha": 0.25, "figure.dpi": 130, "savefig.bbox": "tight", "svg.hashsalt": "ambient",
         "pdf.fonttype": 42}


def colour(method: str) -> str:
    """A method's colour, the same in every figure."""
    return COLOURS.get(method, "#7a4ea3")


def save(figure: plt.Figure, *outs: Path) -> None:
    """Write a figure, as PNG or PDF, without a date in it: equal data give equal bytes."""
    for out in outs:
        with atomic(out) as temporary:
            metadata = {"CreationDate": None} if out.suffix == ".pdf" else {"Software": None}
            figure.savefig(temporary, metadata=metadata, format=out.suffix[1:])
    plt.close(figure)


def log_scale(axis: plt.Axes) -> None:
    """A logarithmic y axis labelled with plain numbers at 1, 2 and 5 of each decade."""
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())


def sigma_axis(axis: plt.Axes, label: str = "noise level sigma") -> None:
    """A logarithmic x axis of noise levels, labelled with plain numbers; call it when all is drawn."""
    axis.set_xscale("log")
    low, high = axis.get_xlim()
    if high < 30 * low:  # few decades: label 2 and 5 too
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel(label)


def named(*parts: str | None, parameters: Mapping[str, object]) -> str:
    """The name of a row or panel: what it has of `parts`, then each parameter."""
    return ", ".join([*(part for part in parts if part), *(f"{k} = {v}" for k, v in parameters.items())])


def sheet(images: np.ndarray, columns: int) -> np.ndarray:
    """uint8 images (N, C, H, H) side by side, `columns` in a row, as (rows H, columns H, C)."""
    rows = -(-len(images) // columns)
    _, channels, side, _ = images.shape
    filled = np.full((rows * columns, channels, side, side), 255, np.uint8)
    filled[:len(images)] = images
    table = filled.reshape(rows, columns, channels, side, side).transpose(0, 3, 1, 4, 2)
    return table.reshape(rows * side, columns * side, channels)


def show(axis: plt.Axes, picture: np.ndarray, title: str = "") -> None:
    """A picture (H, W, 1 or 3) without axes, pixels as they are."""
    axis.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axis.set_title(title, fontsize=8, loc="left")
    axis.axis("off")
