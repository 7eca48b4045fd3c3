"""Figure `locality`: loss against context, and context needed against sigma."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ambient.specs import FigureSpec

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Spec(FigureSpec):
    """`study` names the study whose crop(sigma) is shown."""

    STAGE: ClassVar[str] = "crops_figures"
    LOCALITY: ClassVar[bool] = True
    CAPTION: ClassVar[str] = (
        "How much of an image around a patch a denoiser needs, at each noise level.")


def reads(files, name: str, entry) -> dict:
    """The losses that the stage `locality` measures."""
    return {"locality_table": files.path("locality", study=entry.study)}


def draw(spec: Spec, locality_table: Path) -> Figure:
    """Loss on the centre patch against context, and context needed against sigma (Figures 16 to 19)."""
    import pandas as pd

    from ambient.report.captions import title_of
    from ambient.report.drawing import BLUE, SIGMA, heading, plt, sigma_axis

    found = pd.read_csv(locality_table)
    figure, axes = plt.subplots(1, 2, figsize=(10.2, 4.0), layout="constrained")
    shades = plt.get_cmap("viridis")(np.linspace(0, 0.9, found["sigma"].nunique()))
    for shade, (sigma, rows) in zip(shades, found.groupby("sigma"), strict=True):
        axes[0].errorbar(rows["context_px"], rows["loss"], yerr=rows["loss_stderr"], color=shade, lw=1.2,
                         label=f"{SIGMA} = {sigma:.2g}")
        at = rows[rows["context_px"] == rows["crop_px"]]
        axes[0].plot(at["context_px"], at["loss"], "o", color=shade, ms=7)
    axes[0].set(yscale="log", xlabel="context [pixels]", ylabel="squared error, centre patch",
                title="dot: where the loss nearly plateaus")
    axes[0].legend(frameon=False, fontsize=6, ncol=2, loc="center left", bbox_to_anchor=(1, 0.5))
    needed = found.groupby("sigma")["crop_px"].first()
    axes[1].step(needed.index, needed, where="post", color=BLUE, marker="o")
    axes[1].set(ylabel="context needed, crop(sigma) [pixels]", ylim=(0, found["context_px"].max() * 1.08),
                title=f"least context whose loss is within {bounds(found)} of the whole image's")
    sigma_axis(axes[1])
    for axis in axes:
        axis.title.set_fontsize(9)
    heading(figure, title_of(spec),
            "Left, error bars: standard error over images.")
    return figure


def bounds(table: pd.DataFrame) -> str:
    """What counts as the whole image's loss in a table of the `locality` stage, in words."""
    import pandas as pd

    from ambient.report.captions import tolerance

    if "tolerance" not in table:  # a table made before it was written there
        return "a tolerance"
    relative = table["relative_tolerance"].iloc[0]
    return tolerance(table["tolerance"].iloc[0], None if pd.isna(relative) else relative)
