"""Figure `batch`: images, and the same noised as in training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ambient.specs import FigureSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Spec(FigureSpec):
    """`noise` is the density of training levels, `images` the size of the batch."""

    STAGE: ClassVar[str] = "galleries"
    READS: ClassVar[tuple[str, ...]] = ("images",)
    CAPTION: ClassVar[str] = "Clean images, and the same with noise of levels drawn as in training."


def reads(files, name: str, entry) -> dict:
    """The study's clean dataset, for display."""
    return {"data": files.images(entry.study)}


def draw(spec: Spec, data: Path) -> Figure:
    """A batch, and the same noised to levels drawn as in training (Figure 25)."""
    from ambient.data.datasets import read
    from ambient.diffusion import randomness
    from ambient.report.captions import title_of
    from ambient.report.drawing import SIGMA, heading, plt, sheet, show
    from ambient.report.noising import SCALED, chosen, noised

    dataset = read(data)
    rows = chosen(spec, dataset)
    normal = randomness.numpy_generator("shown-sigma", spec.seed).standard_normal(len(rows))
    sigma = np.sort(np.exp(spec.noise.P_mean + spec.noise.P_std * normal))
    columns = max(1, round(len(rows) ** 0.5))
    figure, axes = plt.subplots(1, 2, figsize=(8, 4.6), layout="constrained")
    show(axes[0], sheet(dataset.images[rows], columns), f"{len(rows)} images")
    show(axes[1], sheet(noised(dataset.images[rows], sigma, spec.seed), columns),
         f"the same noised, {SIGMA} from {sigma[0]:.2g} to {sigma[-1]:.2g}, row by row")
    heading(figure, title_of(spec), f"Levels drawn as in training. {SCALED}")
    return figure
