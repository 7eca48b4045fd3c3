"""Figure `noise_floor`: what the ambient loss costs near sigma_min, and what that takes from clean images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ambient.specs import FigureSpec
from ambient.specs.strict import require

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


DASHES = ("-", "--", ":")  # of the runs' lines: more than these can't be told apart


@dataclass(frozen=True, kw_only=True)
class Spec(FigureSpec):
    """`runs` are of the same images and annotations, and differ in their training: in the buffer, say."""

    STAGE: ClassVar[str] = "crops_figures"
    NOISE_FLOOR: ClassVar[bool] = True
    FOLLOWS: ClassVar[tuple[str, ...]] = ("sigma_min",)
    CAPTION: ClassVar[str] = (
        "Near sigma_min the loss of an image that is not clean is mostly its own noise, without bound. The "
        "uncertainty u is one for all images of a level. So it takes weight from the clean ones, unless a "
        "buffer keeps the others away.")

    runs: tuple[str, ...]  #: names in `runs`
    sigma_low: float  #: lowest noise level
    sigma_high: float  #: highest noise level
    num_sigmas: int  #: levels on each side of sigma_min
    num_images: int  #: clean images that a loss is averaged over, and as many others
    sigma_min: float  #: of every image that is not clean, by the runs' annotation

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.runs) <= len(DASHES), "runs", self.runs,
                f"at most {len(DASHES)}: show further ones in another figure")

    @classmethod
    def follows(cls, settings, where: str, entry, own: Mapping[str, Any]) -> dict[str, Any]:
        """The runs' one sigma_min. Raises `SpecError` for runs that can't be compared."""
        runs = own.get("runs") or []
        require(isinstance(runs, list) and len(runs) > 0, f"{where}.runs", runs, "names in runs")
        for run in runs:
            settings.validate_training(run)
            one, loss = settings.run(run), settings.first_training(run).loss
            first = settings.run(runs[0])
            require((one.study, one.parts) == (first.study, first.parts), f"{where}.runs", run,
                    f"a run with the study, the mixture and the annotation of {runs[0]}")
            require(loss.uncertainty, f"{where}.runs", run, "a run with loss.uncertainty: true")
            require((loss.weight, loss.weight_clip, loss.sigma_tn) == ("ambient", None, "sigma_min"),
                    f"{where}.runs", run, "a run of the ambient loss, with its weight and without a clip")
        spec = settings.annotation(first.study, first.annotation, first.corruption)
        require(spec.GIVEN and 0 < spec.sigma_min < math.inf and not first.also, f"{where}.runs", runs[0],
                "a run with one annotation, which gives one sigma_min > 0 to all images")
        return {"sigma_min": spec.sigma_min}


def reads(files, name: str, entry) -> dict:
    """What the stage `noise_floor` measures for it."""
    return {"table": files.path("noise_floor", floor=name)}


def draw(spec: Spec, table: Path) -> Figure:
    """Losses, the uncertainty, and the weight of clean images against sigma, a line for each run."""
    import pandas as pd

    from ambient.report.captions import title_of
    from ambient.report.drawing import BLUE, ORANGE, RED, heading, plt, sigma_axis

    rows = pd.read_csv(table)
    figure, axes = plt.subplots(1, 3, figsize=(13.2, 4.0), layout="constrained")
    losses(axes[0], rows[rows["run"] == spec.runs[0]])
    looks = list(zip((BLUE, RED, ORANGE), DASHES, strict=True))[:len(spec.runs)]
    for run, (shade, dash) in zip(spec.runs, looks, strict=True):
        mine = rows[rows["run"] == run]
        name = words_of_buffer(mine)
        axes[1].plot(mine["sigma"], mine["u"], color=shade, ls=dash, lw=1.6, label=f"u, {name}")
        axes[1].plot(mine["sigma"], np.log(mean_loss(mine)), color=shade, ls="none", marker="o", ms=2.5,
                     label=f"ln of the mean loss, {name}")
        axes[2].plot(mine["sigma"], weight_of_clean(mine), color=shade, ls=dash, lw=1.6, label=name)
    axes[0].set(yscale="log", ylabel="loss", title="losses, trained with " + words_of_buffer(rows))
    axes[1].set(ylabel="log-variance u", title="the uncertainty, which all images of a level share")
    axes[2].axhline(1, color="0.6", lw=0.8)
    axes[2].set(ylabel="weight of clean images, loss / exp(u)", ylim=(0, None),
                title="1: as if there were clean images alone")
    for axis in axes:
        levels(axis, rows)
        sigma_axis(axis)
        axis.title.set_fontsize(9)
        axis.legend(frameon=False, fontsize=7)
    heading(figure, title_of(spec), "Losses are for one number of an image or a latent. By the closed form "
            "the loss of the others is EDM's and the noise floor. The mean loss is of the images that a "
            "level draws.")
    return figure


def losses(axis: Axes, rows: pd.DataFrame) -> None:
    """The measured losses of one run, and what the ambient one is by its closed form."""
    from ambient.report.drawing import CLEAN, CORRUPTED

    above = rows[rows["ambient_loss"].notna()]
    axis.errorbar(rows["sigma"], rows["clean_loss"], rows["clean_loss_stderr"], color=CLEAN, ls="--", lw=1.2,
                  label="clean images")
    axis.plot(above["sigma"], above["other_loss"] + above["noise_floor"], color=CORRUPTED, lw=1.2,
              label="others, by the closed form")
    axis.errorbar(above["sigma"], above["ambient_loss"], above["ambient_loss_stderr"], color=CORRUPTED,
                  ls="none", marker="o", ms=3, label="others, measured")


def levels(axis: Axes, rows: pd.DataFrame) -> None:
    """Lines at the level from which each run uses the images that are not clean."""
    from ambient.report.drawing import BLACK

    for dash, level in zip((":", "--", "-."), sorted(rows["threshold"].unique()), strict=False):
        axis.axvline(level, color=BLACK, lw=0.8, ls=dash, label=f"others from {level:.3g} on")


def words_of_buffer(rows: pd.DataFrame) -> str:
    """The buffer of a run's admission rule."""
    buffer = rows["buffer"].iloc[0]
    return f"buffer L = {buffer:g}" if buffer > 1 else "no buffer"  # NaN is not


def mean_loss(rows: pd.DataFrame) -> np.ndarray:
    """The mean loss of what a level draws: of clean images, and of those that its rule admits beside them.

    Others that are used below sigma_min have the loss of clean ones there.
    """
    share = rows["clean_share"].to_numpy()
    admitted = rows["sigma"].to_numpy() > rows["threshold"].to_numpy()
    others = np.where(admitted, rows["ambient_loss"], rows["other_loss"])
    return share * rows["clean_loss"].to_numpy() + np.where(share < 1, (1 - share) * others, 0.0)


def weight_of_clean(rows: pd.DataFrame) -> np.ndarray:
    """E[loss of clean images] / e^u: the part that they have of a step, 1 where u is fitted to them alone."""
    return rows["clean_loss"].to_numpy() * np.exp(-rows["u"].to_numpy())
