"""Numbers of the running text that follow from the settings of a run alone: its size and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ambient.settings.experiments import Experiments


def counted(settings: Experiments, run: str, of: str, tflops: float | None) -> float | None:
    """One of `ambient.specs.report.COUNTED` of a run; None for one that its settings leave open.

    A day of a GPU is counted at `tflops`, 10^12 floating-point operations a second that it sustains. A
    training step costs three forward passes an image, a multiply-add two operations. Images and days are
    those of the run and of all phases before it.
    """
    study, spec = settings.run(run).study, settings.first_training(run)
    if of == "good_share":
        return settings.fraction(study)
    if of == "images_1e6":
        return (spec.seen + spec.optimiser.nimg) / 1e6
    if of == "batch":
        return spec.optimiser.batch
    if of == "lr":
        return spec.optimiser.lr
    if of == "parameters_1e6":
        number = parameters(settings, run)
        return None if number is None else number / 1e6
    return operations(settings, run) / (tflops * 1e12 * 86400)


def operations(settings: Experiments, run: str) -> float:
    """Floating-point operations of a run's training and of all phases before it, each with its own images."""
    found, images = 0.0, settings.first_training(run).optimiser.nimg
    for phase in [run, *settings.phases_before(run)]:
        spec, (channels, side) = settings.first_training(phase), settings.shape(settings.run(phase).study)
        found += 3 * 2.0 * spec.cost(side, channels).multiply_adds * images
        if spec.start is not None:
            images = spec.start.nimg
    return found


def parameters(settings: Experiments, run: str) -> int | None:
    """How many weights a run's network has, without its log-variance.

    None where it is told classes, and how many there are is not known before the images are read, or where
    its kind does not count.
    """
    study, spec = settings.run(run).study, settings.first_training(run)
    dataset, (channels, side) = settings.dataset(settings.study(study).dataset), settings.shape(study)
    classes = dataset.CLASSES or (dataset.SHAPE[1] if dataset.SHAPE else None)
    told = spec.network.conditional and spec.network.TOLD == "classes"
    if told and classes is None and dataset.HAS_CLASSES:
        return None
    return spec.network.parameters(side, channels, classes or 0, bool(spec.augment.transforms))
