"""Figure `patches`: which patches of images pass for the other kind's (section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ambient.specs import FigureSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Spec(FigureSpec):
    """`shown` says whose images; `corruptions` has the added dataset, whose crops `annotation` asks of."""

    STAGE: ClassVar[str] = "crops_figures"
    READS: ClassVar[tuple[str, ...]] = ("corruptions", "names", "annotation", "images", "shown")
    NEEDS: ClassVar[str] = "classifiers"
    CORRUPTIONS: ClassVar[int] = 1
    PATCH_MAPS: ClassVar[bool] = True
    CAPTION: ClassVar[str] = (
        "Each patch of an image with the probability that it is of the other kind: such "
        "patches can train a model of that kind.")


def reads(files, name: str, entry) -> dict:
    """The maps that the stage `patch_maps` makes for it."""
    return {"patches": files.path("patch_maps", patches=name)}


def draw(spec: Spec, patches: Path) -> Figure:
    """Images and how probably each of their patches is of the other kind, each crop size (6, 20 to 24).

    The other dataset's images with P(target), or the target's with P(other) = 1 - P(target).
    """
    from ambient.data.patch_maps import PatchMaps
    from ambient.report.drawing import heading, plt, show

    maps = PatchMaps.read(patches)
    count, sizes = len(maps.images), len(maps.p_target)
    figure, axes = plt.subplots(sizes + 1, count, squeeze=False, layout="constrained",
                                figsize=(1.4 * count + 1.6, 1.5 * (sizes + 1) + 0.5))
    for k, image in enumerate(maps.images):
        show(axes[0][k], image.transpose(1, 2, 0))
        for axis, (size, p_target) in zip(axes[1:, k], maps.p_target.items(), strict=True):
            p = p_target[k] if spec.shown == "other" else 1 - p_target[k]
            drawn = axis.imshow(p, vmin=0, vmax=1, cmap="cividis", interpolation="nearest")
            axis.set_title(f"{size} pixels: mean {p.mean():.2f}", fontsize=7)
            axis.axis("off")
    images, probability = words_of(spec)
    figure.colorbar(drawn, ax=axes, label=probability, shrink=0.7)
    heading(figure, spec.title, f"Images: {images}. Below, each patch by the classifier of its size.")
    return figure


def words_of(spec: FigureSpec) -> tuple[str, str]:
    """(whose images are shown, what is said of their patches)."""
    target, other = spec.target or "the target", spec.names[0].removeprefix("plus ")
    if spec.shown == "other":
        return other, f"P(patch is of {target})"
    return f"{target}, which the classifiers have not seen", f"P(patch is of {other})"
