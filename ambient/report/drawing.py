"""What every figure shares: style, colours, saving with reproducible bytes, sheets of images."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

from ambient.storage.files import atomic

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (after the backend is chosen)
from matplotlib.axis import Axis  # noqa: E402
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # noqa: E402

# Okabe and Ito's colours, which the colour-blind tell apart; lines differ in their dashes as well.
BLACK, ORANGE, SKY, GREEN, BLUE, RED, PURPLE = (
    "#000000", "#e69f00", "#56b4e9", "#009e73", "#0072b2", "#d55e00", "#cc79a7")
METHODS = {"Only Clean": (BLACK, ":", "s"), "Only Good": (BLACK, ":", "s"), "All data": (RED, "--", "^"),
           "Ambient-o": (BLUE, "-", "o"), "Ambient-o+crops": (BLUE, "-.", "p")}
OTHERS = ((PURPLE, "-."), (ORANGE, "-"), (SKY, "--"), (GREEN, "-."), (BLUE, ":"), (RED, "-"), (BLACK, "--"))
MARKERS = "DvPX<>dh*8H"  # 11, which shares no divisor with the 7 colours: 77 lines look different
CLEAN, CORRUPTED, OTHER = GREEN, RED, ORANGE  # by origin of the data
DASHES = {CLEAN: "-", CORRUPTED: "--", OTHER: "-."}
SIGMA, SIGMA_MIN, SIGMA_MAX = r"$\sigma$", r"$\sigma_{\min}$", r"$\sigma_{\max}$"
STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
         "grid.alpha": 0.25, "figure.dpi": 130, "savefig.bbox": "tight", "svg.hashsalt": "ambient",
         "pdf.fonttype": 42}


def line_of(method: str, methods: Sequence[str] = ()) -> dict[str, str]:
    """Colour, dash and marker of a method: its own in every figure, or by its place among `methods`."""
    known = [name for name in dict.fromkeys(methods) if name not in METHODS]
    place = known.index(method) if method in known else 0
    shade, dash, marker = METHODS.get(method) or look_of(place)
    return {"color": shade, "ls": dash, "marker": marker}


def look_of(place: int) -> tuple[str, str, str]:
    """(colour, dash, marker) of a line by its number, from 0, among those without a look of their own."""
    return *OTHERS[place % len(OTHERS)], MARKERS[place % len(MARKERS)]


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
    plain_numbers(axis.yaxis)


def plain_numbers(axis: Axis) -> None:
    """Label a logarithmic axis with plain numbers at 1, 2 and 5 of each decade."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def sigma_axis(axis: plt.Axes, label: str = f"noise level {SIGMA}") -> None:
    """A logarithmic x axis of noise levels, labelled with plain numbers; call it when all is drawn."""
    axis.set_xscale("log")
    low, high = axis.get_xlim()
    if high < 30 * low:  # few decades: label 2 and 5 too
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel(label)


def wilson(p: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's 95 % interval of a mean `p` in [0, 1] over `count` images, (low, high).

    (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n) with z = 1.96. It covers about 95 % for
    verdicts of 0 or 1. Probabilities between them vary less, so for their mean it is wider than need be.
    """
    z, p = 1.96, np.asarray(p, np.float64)
    middle, half = p + z**2 / (2 * count), z * np.sqrt(p * (1 - p) / count + z**2 / (4 * count**2))
    low, high = (middle - half) / (1 + z**2 / count), (middle + half) / (1 + z**2 / count)
    return np.minimum(low, p), np.maximum(high, p)  # at 0 and 1 rounding would leave the mean outside


def verdicts(axis: plt.Axes, levels: pd.DataFrame, counts: Mapping[str, int], tau: float | None) -> None:
    """A noise classifier's mean P(clean) of held-out images against sigma, with bands, and tau."""
    for kind, shade in (("clean", CLEAN), ("corrupted", CORRUPTED)):
        mean, count = levels[f"p_clean_of_{kind}"], counts.get(kind)
        label = f"{count} {kind} images" if count else f"{kind} images"
        axis.plot(levels["sigma"], mean, color=shade, ls=DASHES[shade], label=label)
        if count:
            axis.fill_between(levels["sigma"], *wilson(mean, count), color=shade, alpha=0.15, lw=0)
    if tau is not None:
        axis.axhline(tau, color=BLACK, lw=0.8, ls=":", label=f"decision, tau = {tau:.2f}")
    axis.set(ylim=(0, 1), ylabel="mean P(clean), held out\n(band: 95 %)")


def sheet(images: np.ndarray, columns: int) -> np.ndarray:
    """uint8 images (N, C, H, H) side by side, `columns` in a row, as (rows H, columns H, C)."""
    rows = -(-len(images) // columns)
    _, channels, side, _ = images.shape
    filled = np.full((rows * columns, channels, side, side), 255, np.uint8)
    filled[:len(images)] = images
    table = filled.reshape(rows, columns, channels, side, side).transpose(0, 3, 1, 4, 2)
    return table.reshape(rows * side, columns * side, channels)


def strips(lines: Sequence[tuple[str, np.ndarray]], columns: int, title: str | None,
           note: str = "") -> plt.Figure:
    """Rows of uint8 images (N, C, H, H), `columns` side by side; no row's title meets the row above it."""
    rows = [-(-len(images) // columns) for _, images in lines]
    figure, axes = plt.subplots(len(lines), 1, squeeze=False, layout="constrained", height_ratios=rows,
                                figsize=(columns * 0.6, sum(0.6 * count + 0.3 for count in rows) + 0.5))
    for axis, (name, images) in zip(axes[:, 0], lines, strict=True):
        show(axis, sheet(images, columns), name)
    heading(figure, title, note)
    return figure


def heading(figure: plt.Figure, title: str | None, note: str = "") -> None:
    """A figure's title above it, and under it what its marks are; both in lines that fit its width."""
    inches = figure.get_figwidth()
    if title:
        figure.suptitle(textwrap.fill(title, int(inches * 13)), fontsize=10)
    if note:
        figure.supxlabel(textwrap.fill(note, int(inches * 19)), fontsize=7)


def show(axis: plt.Axes, picture: np.ndarray, title: str = "") -> None:
    """A picture (H, W, 1 or 3) without axes, pixels as they are, under its title."""
    axis.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axis.set_title(title, fontsize=8, loc="left", pad=2)
    axis.axis("off")
