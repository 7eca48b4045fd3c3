"""Figure `best_worst_crops`: the patches with the highest and the lowest scores (figure 5 of the paper)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ambient.report import scored
from ambient.report.scored import ScoredSpec
from ambient.specs.strict import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Spec(ScoredSpec):
    """`images` are shown of each group, each with one of its patches of `patch_px` pixels."""

    READS: ClassVar[tuple[str, ...]] = ("images",)
    CAPTION: ClassVar[str] = (
        "The best and the worst patches of the dataset by their score, framed in their images, one of each. "
        "Poor images have good patches, and good images poor ones.")

    patch_px: int  #: side of a patch, pixels, that the scorer scores

    @classmethod
    def follows(cls, settings, where: str, entry, own) -> dict[str, Any]:
        found = super().follows(settings, where, entry, own)
        sides = settings.scorer(own["scorer"]).patch_sides()
        require(own.get("patch_px") in sides, f"{where}.patch_px", own.get("patch_px"),
                ", ".join(map(str, sides)) or f"none: {own['scorer']} scores no patches")
        return found


reads = scored.reads


def draw(spec: Spec, data: Path, scores: Path) -> Figure:
    """Images with a frame around the best (or worst) patch of each, and below them the patch itself."""
    from ambient.data.datasets import read
    from ambient.data.scores import Scores
    from ambient.report.captions import title_of
    from ambient.report.drawing import CLEAN, CORRUPTED, heading, plt, show

    dataset = read(data)
    found = Scores.read(scores).of(dataset.ids)
    if spec.patch_px not in found.patches:
        raise ValueError(f"{scores}: has no score of each patch of {spec.patch_px} pixels, allowed: "
                         + (", ".join(map(str, found.patches)) or "none, its scorer knows means alone"))
    each = np.asarray(found.patches[spec.patch_px])
    flat = each.reshape(len(each), -1)
    alike = np.zeros(len(flat), np.int64)  # patches of all images are compared
    best, _ = scored.extremes(flat.max(axis=1), alike, spec.images)
    _, worst = scored.extremes(flat.min(axis=1), alike, spec.images)
    groups = {"the best patches": (flat.argmax(axis=1), best, CLEAN),
              "the worst patches": (flat.argmin(axis=1), worst, CORRUPTED)}
    figure = plt.figure(figsize=(1.15 * spec.images + 0.4, 5.9), layout="constrained")
    parts = figure.subfigures(len(groups), 1)
    for part, (name, (places, rows, shade)) in zip(parts, groups.items(), strict=True):
        part.suptitle(name, x=0.01, ha="left", fontsize=9, fontweight="bold")
        axes = part.subplots(2, spec.images, squeeze=False)
        for axis in axes.flat:
            axis.axis("off")
        for k, row in enumerate(rows):
            y, x = (spec.patch_px * at for at in divmod(int(places[row]), each.shape[2]))
            picture = dataset.images[row].transpose(1, 2, 0)
            show(axes[0, k], picture)
            axes[0, k].add_patch(plt.Rectangle((x - 0.5, y - 0.5), spec.patch_px, spec.patch_px, fill=False,
                                               edgecolor=shade, lw=1.5))
            show(axes[1, k], picture[y:y + spec.patch_px, x:x + spec.patch_px],
                 f"{flat[row, places[row]]:.3g}")
    heading(figure, title_of(spec), f"Each image above its patch of {spec.patch_px} pixels, with the patch's "
            f"{spec.scorer}; a higher score is better.")
    return figure
