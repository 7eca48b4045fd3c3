"""How many images jobs read, of which shape, and what of them is in memory."""

from __future__ import annotations

from ambient.cluster.work import in_memory_mb
from ambient.settings import Experiments

CAPTION_MB = 1e-3  # of an image: its caption, a copy of it, and where its sample lies in an archive


class Counts:
    """Counts of a scale. Dataset sizes are those of its configuration."""

    def __init__(self, experiments: Experiments) -> None:
        self.experiments = experiments

    def dataset(self, name: str) -> tuple[int, int, int]:
        """(images, channels, resolution) of a prepared dataset."""
        spec = self.experiments.dataset(name)
        low, high = spec.part or (0, 1)
        images = spec.max_images or round((spec.num_images or 50_000) * (high - low))
        return images, spec.channels, spec.resolution

    def study_data(self, study: str) -> str:
        """The name of a study's dataset."""
        return self.experiments.study(study).dataset

    def data(self, study: str) -> tuple[int, int, int]:
        """(images, channels, resolution) of a study's dataset."""
        return self.dataset(self.study_data(study))

    def points(self, study: str) -> tuple[int, int, int]:
        """(images, channels, side) of what a study's denoisers see."""
        return self.data(study)[0], *self.experiments.shape(study)

    def mixture(self, study: str, corruption: str, classifier: str | None = None) -> tuple[int, int]:
        """(clean, other) images of a mixture: its own, or that of a leaky classifier."""
        images = self.data(study)[0]
        clean = round(images * self.experiments.fraction(study, classifier))
        added = self.experiments.added_dataset(corruption)
        return clean, images - clean if added is None else self.dataset(added)[0]

    def learnt(self, run: str) -> int:
        """Images that a run learns from: each of its mixtures, the clean ones once."""
        made = self.experiments.run(run)
        mixtures = [self.mixture(made.study, corruption) for corruption, _ in made.parts]
        return mixtures[0][0] + sum(others for _, others in mixtures)

    def data_mb(self, study: str, images: int) -> float:
        """Of so many images of a study those that are in memory at once, as float32, MB."""
        _, channels, resolution = self.data(study)
        return 4 * in_memory_mb(images * channels * resolution**2)

    def captions_mb(self, dataset: str, images: int) -> float:
        """Of the captions of so many images, where a dataset has them, MB."""
        return CAPTION_MB * images if self.experiments.dataset(dataset).captioned else 0.0
