"""Numbers of the running text that follow from the settings of a run alone: its size and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ambient.settings.experiments import Experiments


def counted(settings: Experiments, run: str, of: str, tflops: float | None) -> float:
    """One of `ambient.specs.report.COUNTED` of a run.

    A day of a GPU is counted at `tflops`, 10^12 floating-point operations a second that it sustains. A
    training step costs three forward passes an image, a multiply-add two operations.
    """
    study, spec = settings.run(run).study, settings.training(run, 0)
    if of == "good_share":
        return settings.fraction(study)
    if of == "images_1e6":
        return spec.optimiser.nimg / 1e6
    if of == "batch":
        return spec.optimiser.batch
    if of == "lr":
        return spec.optimiser.lr
    channels, side = settings.shape(study)
    if of == "parameters_1e6":
        dataset = settings.dataset(settings.study(study).dataset)
        classes = dataset.CLASSES or (dataset.SHAPE or (channels, 0))[1]
        return spec.network.parameters(side, channels, classes) / 1e6
    forward = 2.0 * spec.network.cost(side, channels).multiply_adds
    return 3 * forward * spec.optimiser.nimg / (tflops * 1e12 * 86400)
