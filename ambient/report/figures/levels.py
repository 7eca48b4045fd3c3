"""Figure `levels`: sigma_min of corruptions beside images noised to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ambient.specs import FigureSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ambient.data.annotations import Annotations
    from ambient.data.datasets import Dataset


@dataclass(frozen=True)
class Spec(FigureSpec):
    """`corruptions` are shown, each as `annotation` annotates it."""

    STAGE: ClassVar[str] = "galleries"
    READS: ClassVar[tuple[str, ...]] = ("corruptions", "names", "annotation", "images")
    NEEDS: ClassVar[str] = "classifier"
    CAPTION: ClassVar[str] = (
        "Each corruption's images, and the same noised to their own sigma_min beside clean "
        "ones with the same noise: from there on the corrupted ones train as clean ones do.")


def reads(files, name: str, entry) -> dict:
    """The study's clean dataset, for display, and each corruption's annotations with their summary."""
    return {"data": files.images(entry.study), "reports": of_each(files, entry, "summary"),
            "annotations": of_each(files, entry, "out")}


def of_each(files, entry, role: str) -> list[str]:
    """A file of the annotations of each corruption."""
    return [files.path("annotate", role, study=entry.study, corruption=corruption,
                       annotation=entry.annotation) for corruption in entry.corruptions]


def draw(spec: Spec, data: Path, reports: Sequence[Path], annotations: Sequence[Path]) -> Figure:
    """Figure 3: each corruption's images, the same and the clean ones noised to the former's own sigma_min.

    Beside them its sigma_min over all images (mean, quartiles); corruptions in rising order.
    """
    from ambient.data.annotations import Annotations
    from ambient.data.datasets import read
    from ambient.report.captions import title_of
    from ambient.report.drawing import SIGMA_MIN, heading, plt, sheet, show
    from ambient.report.noising import SCALED, corrupted, noised
    from ambient.storage.files import read_json

    dataset, tables = read(data), [Annotations.read(path) for path in annotations]
    found = list(zip(map(read_json, reports), spec.names, spec.corruptions, tables, strict=True))
    found.sort(key=lambda item: item[0].get("sigma_min_mean", np.inf))
    rows = of_all(dataset, tables, spec)
    width = max(len(rows), 1)
    figure = plt.figure(figsize=(3.6 + 1.35 * width, 0.9 + 0.85 * (len(found) + 1)), layout="constrained")
    places = figure.add_gridspec(len(found) + 1, 4, width_ratios=[width, width, width, 0.3 * width + 3])
    clean = dataset.images[rows]
    if len(rows):
        show(figure.add_subplot(places[0, 0]), sheet(clean, width), "clean")
    for k, (_, name, one, table) in enumerate(found if len(rows) else ()):
        own = table.of(dataset.ids[rows]).sigma_min
        images = corrupted(one, dataset, rows)
        panels = ((name, images), (f"{name}, noised to its {SIGMA_MIN}", noised(images, own, spec.seed)),
                  ("clean, noised to the same", noised(clean, own, spec.seed)))
        for column, (title, pictures) in enumerate(panels):
            show(figure.add_subplot(places[k + 1, column]), sheet(pictures, width), title)
    chart = figure.add_subplot(places[1:, 3])
    quartiles(chart, [(summary, name) for summary, name, *_ in found])
    heading(figure, title_of(spec), "Where the second and the third column can't be told apart, a corrupted "
            f"image trains as a clean one does. Each has a level of its own, and one noise in both. {SCALED}")
    return figure


def of_all(data: Dataset, annotations: Sequence[Annotations], spec: FigureSpec) -> np.ndarray:
    """The rows shown: images that every corruption gave a sigma_min, drawn by id.

    Fewer where an annotation has too few of them; the images of a mixture that stayed clean have none.
    """
    from ambient.data.shown import shown

    ids = data.ids
    for one in annotations:
        noisy = np.isfinite(one.sigma_min) & (one.sigma_min > 0)
        ids = np.intersect1d(ids, one.ids[noisy])
    return np.flatnonzero(np.isin(data.ids, ids[shown(ids, spec.images, spec.seed)]))


def quartiles(chart: Axes, found: Sequence[tuple[dict, str]]) -> None:
    """Mean and quartiles of sigma_min, a line a corruption."""
    from ambient.report.drawing import CORRUPTED, SIGMA_MIN, sigma_axis

    for k, (summary, _) in enumerate(found):
        if "sigma_min_mean" not in summary:
            continue
        mean, (_, low, _, high, _) = summary["sigma_min_mean"], summary["sigma_min_quartiles"]
        chart.plot([low, high], [k, k], color=CORRUPTED, lw=5, alpha=0.35, solid_capstyle="butt")
        chart.plot(mean, k, "o", color=CORRUPTED)
        chart.annotate(f"{mean:.2f}", (mean, k), (0, 7), textcoords="offset points", ha="center", fontsize=8)
    chart.set_yticks(range(len(found)), [name for _, name in found])
    chart.set_ylim(len(found) - 0.5, -0.5)
    chart.set_title("all images: mean (dot), quartiles (bar)", fontsize=8)
    sigma_axis(chart, SIGMA_MIN)
