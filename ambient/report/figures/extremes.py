"""Figure `extremes`: images with the least and the largest sigma_min of a run, and those least sure of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ambient.specs import FigureSpec
from ambient.specs.strict import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ambient.data.annotations import Annotations

LENGTH = 18  # characters of a file's name that are shown


@dataclass(frozen=True)
class Spec(FigureSpec):
    """`run` names the run; `images` are shown of each group."""

    STAGE: ClassVar[str] = "crops_figures"
    READS: ClassVar[tuple[str, ...]] = ("images",)
    NEEDS_RUN: ClassVar[bool] = True
    CAPTION: ClassVar[str] = (
        "Images by their sigma_min, the least and the largest: as they are, and noised to it. "
        "From there on an image trains as a good one does. The classifier is unsure of an image whose "
        "sigma_min would be far another one, were the threshold a little lower or higher.")


def reads(files, name: str, entry) -> dict:
    """What the run is trained on, with the images that it may lack, and its annotations.

    Raises `SpecError` for a run of several mixtures on latents, whose data have no images.
    """
    beside = list(dict.fromkeys(files.images_beside(entry.run)))
    require(len(beside) < 2, f"figures.{name}.run", entry.run, "one of a single mixture, or on pixels")
    return {"data": files.training_data(entry.run), "images": next(iter(beside), None),
            "annotations": files.annotations(entry.run),
            "summaries": files.annotations_of_parts(entry.run, "summary")}


def draw(spec: FigureSpec, data: Path, annotations: Path, images: Path | None = None,
         summaries: Sequence[Path] = ()) -> Figure:
    """Two rows for each group of images: as they are, with their files' names, and noised to their level."""
    from ambient.data.annotations import Annotations
    from ambient.data.datasets import read
    from ambient.report.captions import title_of
    from ambient.report.drawing import SIGMA_MIN, heading, plt, show
    from ambient.report.noising import SCALED, noised

    mixture = read(data) if images is None else read(data).shown([read(images)])
    own = Annotations.read(annotations).of(mixture.ids)
    shown = groups(spec, own) | least_sure(spec, own, summaries)
    names = mixture.file_names or [f"image {i}" for i in mixture.ids.tolist()]
    count = max(map(len, shown.values()), default=1)
    figure = plt.figure(figsize=(1.15 * count + 0.4, 2.75 * len(shown) + 0.8), layout="constrained")
    parts = figure.subfigures(max(len(shown), 1), 1, squeeze=False)[:, 0]
    for part, (group, rows) in zip(parts, shown.items(), strict=False):
        part.suptitle(group, x=0.01, ha="left", fontsize=9, fontweight="bold")
        axes = part.subplots(2, count, squeeze=False)
        for axis in axes.flat:
            axis.axis("off")
        sigma = own.sigma_min[rows]
        noisy = noised(mixture.images[rows], np.where(np.isfinite(sigma), sigma, 0.0), spec.seed)
        for i, row in enumerate(rows):
            show(axes[0, i], mixture.images[row].transpose(1, 2, 0), short(names[row]))
            show(axes[1, i], noisy[i].transpose(1, 2, 0),
                 f"{SIGMA_MIN} = {sigma[i]:.2g}" if np.isfinite(sigma[i]) else "never")
    heading(figure, title_of(spec), "Above each image as it is, below it noised to its own level, from which "
            f"on it trains as a good one does. {SCALED}")
    return figure


def groups(spec: FigureSpec, annotations: Annotations) -> dict[str, np.ndarray]:
    """Which images are shown, by what is said of them: places among the rows of `annotations`.

    Images that are never used at high noise are drawn by id. Of the others those with the least sigma_min are
    shown, those around its median, and those with the largest.
    """
    from ambient.diffusion import randomness
    from ambient.report.drawing import SIGMA_MIN

    sigma = annotations.sigma_min
    other = np.flatnonzero((sigma > 0) & np.isfinite(sigma))
    ranked = other[np.argsort(sigma[other], kind="stable")]
    middle = max(0, (len(ranked) - spec.images) // 2)
    never = np.flatnonzero(np.isinf(sigma))
    drawn = np.argsort(randomness.uniform("shown", spec.seed, annotations.ids[never]))[:spec.images]
    found = {f"the least {SIGMA_MIN}: nearest to the good images": ranked[:spec.images],
             f"in the middle by {SIGMA_MIN}": ranked[middle:middle + spec.images],
             f"the largest {SIGMA_MIN}": ranked[::-1][:spec.images][::-1],
             "never used at high noise, some of them": never[np.sort(drawn)]}
    return {name: rows for name, rows in found.items() if len(rows)}


def least_sure(spec: FigureSpec, annotations: Annotations,
               summaries: Sequence[Path]) -> dict[str, np.ndarray]:
    """Of all `summaries`' images those whose sigma_min hangs most on the threshold: places among the rows."""
    from ambient.report.drawing import SIGMA_MIN
    from ambient.storage.files import read_json

    named = [one for path in summaries for one in read_json(path).get("unsure", ())]
    first = sorted(named, key=lambda one: one["from"] / one["to"])[:spec.images]
    place = {identity: row for row, identity in enumerate(annotations.ids.tolist())}
    rows = np.array([place[one["id"]] for one in first], np.int64)
    return {f"the classifier is unsure: {SIGMA_MIN} hangs on the threshold": rows} if len(rows) else {}


def short(name: str) -> str:
    """The end of a file's name, that fits over its picture."""
    name = PurePosixPath(name).name
    return name if len(name) <= LENGTH else "…" + name[-LENGTH + 1:]
