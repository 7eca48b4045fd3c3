"""Figure `crossing`: P(clean) against sigma, above it a pair of images noised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ambient.specs import FigureSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVELS = (0.0, 0.1, 0.3, 1.0, 3.0)  # of noise, at which the pair is shown


@dataclass(frozen=True)
class Spec(FigureSpec):
    """`corruptions` has one, whose noise classifier `annotation` asks; tau = 0.5 - `epsilon`."""

    STAGE: ClassVar[str] = "galleries"
    READS: ClassVar[tuple[str, ...]] = ("corruptions", "names", "annotation")
    NEEDS: ClassVar[str] = "classifier"
    CORRUPTIONS: ClassVar[int] = 1
    CAPTION: ClassVar[str] = (
        "A classifier's mean P(clean) of images that it was not trained on, against the noise "
        "level: where the corrupted ones pass tau, noise has hidden the corruption.")


def reads(files, name: str, entry) -> dict:
    """The study's clean dataset, for display, and the classifier's held-out report."""
    return {"data": files.images(entry.study), "reports": [files.classifier(
        entry.study, entry.corruptions[0], entry.annotation, "calibration")]}


def draw(spec: Spec, data: Path, reports: Sequence[Path]) -> Figure:
    """P(clean) of held-out corrupted images against sigma, and a pair of images noised (Figure 2).

    The held-out report of the classifier is the first file of `reports`.
    """
    import pandas as pd

    from ambient.annotation.statistics import crossing_of
    from ambient.data.datasets import read
    from ambient.report.captions import held_out, title_of
    from ambient.report.drawing import BLACK, SIGMA, heading, plt, show, sigma_axis, verdicts
    from ambient.report.noising import SCALED, chosen, corrupted, noised
    from ambient.storage.files import read_json

    dataset, report, tau = read(data), read_json(reports[0]), 0.5 - spec.epsilon
    levels = pd.DataFrame(report["levels"])
    row = chosen(spec, dataset)[:1]
    pair = np.concatenate([dataset.images[row], corrupted(spec.corruptions[0], dataset, row)])
    figure = plt.figure(figsize=(8.2, 6.2), layout="constrained")
    places = figure.add_gridspec(3, len(LEVELS), height_ratios=[1, 1, 1.9])
    for k, sigma in enumerate(LEVELS):
        for i, picture in enumerate(noised(pair, sigma, k)):
            axis = figure.add_subplot(places[i, k])
            show(axis, picture.transpose(1, 2, 0), f"{('clean', spec.names[0])[i]}, {SIGMA} = {sigma:g}")
    axis = figure.add_subplot(places[2, :])
    verdicts(axis, levels, report.get("held_out", {}), tau)
    found = crossing_of(levels, tau)
    if found:
        axis.axvline(found, color=BLACK, lw=1, ls="--", label=f"crossing, {SIGMA} = {found:.2f}")
    sigma_axis(axis)
    axis.legend(frameon=False, ncol=2, loc="upper right", fontsize=8)
    heading(figure, title_of(spec), f"{held_out(report)}; band: Wilson's 95 % interval for so many. {SCALED}")
    return figure
