"""Figure `locality`: loss against context, and context needed against sigma."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from ambient.specs import FigureSpec
from ambient.specs.strict import later

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Spec(FigureSpec):
    """`study` names the study whose crop(sigma) is shown."""

    STAGE: ClassVar[str] = "crops_figures"
    LOCALITY: ClassVar[bool] = True
    FOLLOWS: ClassVar[tuple[str, ...]] = ("factor",)
    CAPTION: ClassVar[str] = (
        "How much of an image around a patch a denoiser needs, at each noise level.")

    #: losses against context, crop(sigma), or both side by side
    panels: Literal["both", "losses", "crop"] = later("both", kw_only=True)
    factor: int = later(1, kw_only=True)  #: pixels of an image to one number of what the denoiser sees

    @classmethod
    def follows(cls, settings, where: str, entry, own: Mapping[str, Any]) -> dict[str, Any]:
        """How many pixels one number of a latent stands for; 1 where the study works on pixels."""
        resolution = settings.dataset(settings.study(entry.study).dataset).resolution
        return {"factor": resolution // settings.shape(entry.study)[1]}


def reads(files, name: str, entry) -> dict:
    """The losses that the stage `locality` measures."""
    return {"locality_table": files.path("locality", study=entry.study)}


def draw(spec: Spec, locality_table: Path) -> Figure:
    """Loss on the centre patch against context, and context needed against sigma (Figures 16 to 19)."""
    import pandas as pd

    from ambient.report.captions import title_of
    from ambient.report.drawing import heading, plt

    table = pd.read_csv(locality_table)
    drawers = {"losses": losses, "crop": crop}
    shown = list(drawers) if spec.panels == "both" else [spec.panels]
    figure, axes = plt.subplots(1, len(shown), figsize=(5.1 * len(shown), 4.0), layout="constrained",
                                squeeze=False)
    for name, axis in zip(shown, axes[0], strict=True):
        drawers[name](axis, table, unit(spec))
        axis.title.set_fontsize(9)
    notes = ["Error bars: standard error over images."] * ("losses" in shown)
    notes += [f"One number of a latent stands for {spec.factor}x{spec.factor} pixels."] * (spec.factor > 1)
    heading(figure, title_of(spec), " ".join(notes))
    return figure


def unit(spec: Spec) -> str:
    """What contexts are counted in."""
    return "pixels" if spec.factor == 1 else "numbers of a latent"


def losses(axis: Axes, table: pd.DataFrame, unit: str) -> None:
    """The loss against context, a line for each level."""
    from ambient.report.drawing import SIGMA, plt

    shades = plt.get_cmap("viridis")(np.linspace(0, 0.9, table["sigma"].nunique()))
    for shade, (sigma, rows) in zip(shades, table.groupby("sigma"), strict=True):
        axis.errorbar(rows["context_px"], rows["loss"], yerr=rows["loss_stderr"], color=shade, lw=1.2,
                      label=f"{SIGMA} = {sigma:.2g}")
        at = rows[rows["context_px"] == rows["crop_px"]]
        axis.plot(at["context_px"], at["loss"], "o", color=shade, ms=7)
    axis.set(yscale="log", xlabel=f"context [{unit}]", ylabel="squared error, centre patch",
             title="dot: where the loss nearly plateaus")
    axis.legend(frameon=False, fontsize=6, ncol=2, loc="center left", bbox_to_anchor=(1, 0.5))


def crop(axis: Axes, table: pd.DataFrame, unit: str) -> None:
    """The context needed against sigma."""
    from ambient.report.drawing import BLUE, sigma_axis

    needed = table.groupby("sigma")["crop_px"].first()
    axis.step(needed.index, needed, where="post", color=BLUE, marker="o")
    axis.set(ylabel=f"context needed, crop(sigma) [{unit}]", ylim=(0, table["context_px"].max() * 1.08),
             title=f"least context whose loss is within {bounds(table)} of the whole image's")
    sigma_axis(axis)


def bounds(table: pd.DataFrame) -> str:
    """What counts as the whole image's loss in a table of the `locality` stage, in words."""
    import pandas as pd

    from ambient.report.captions import tolerance

    if "tolerance" not in table:  # a table made before it was written there
        return "a tolerance"
    relative = table["relative_tolerance"].iloc[0]
    return tolerance(table["tolerance"].iloc[0], None if pd.isna(relative) else relative)
