"""The detectors of a study, on which data they are made, and what a distance in their features is called."""

from __future__ import annotations

import dataclasses

from ambient.settings.resolve import once
from ambient.settings.trainings import Trainings
from ambient.specs import DetectorSpec
from ambient.specs.strict import build, require


class Detectors(Trainings):
    """The stages of a scale, with what distances are measured by."""

    def detectors(self, study: str) -> tuple[str, ...]:
        """The detectors of a study: a table's `value` is by the first one, others stand beside it."""
        names = self.study(study).detector
        for name in names:
            self.entry("detectors", name, f"studies.{study}.detector")
        return names

    @once
    def detector(self, name: str) -> DetectorSpec:
        """The specification of the `detector` and `reference` stages."""
        entry = self.entry("detectors", name, "studies")
        own = {k: v for k, v in entry.items() if k not in ("dataset", "weights_of")}
        return build(DetectorSpec, own, f"detectors.{name}")

    def weights_of(self, name: str) -> str:
        """The detector whose weights this one measures with: `weights_of`, or itself."""
        entry, where = self.entry("detectors", name, "studies"), f"detectors.{name}"
        if (other := entry.get("weights_of")) is None:
            return name
        lender = self.entry("detectors", other, f"{where}.weights_of")
        ours, its = self.detector(name), self.detector(other)
        alike = dataclasses.replace(ours, best=None, against=None) == its
        same = alike if its.LEARNS else ours.kind == its.kind
        require(same and "weights_of" not in lender, f"{where}.weights_of", other,
                "another detector of the same kind, with weights of its own; where it learns, with the same "
                f"settings but for best and against (like: {other})")
        for key in ("weights", "dataset"):
            require(entry.get(key) in (None, lender.get(key)), f"{where}.{key}", entry.get(key),
                    f"none: set detectors.{other}'s")
        return other

    def detector_dataset(self, study: str, name: str | None = None) -> str:
        """The dataset that a detector (None: the first) is made on: its own `dataset`, or the study's."""
        name = self.weights_of(name or self.detectors(study)[0])
        dataset = self.entry("detectors", name, "studies").get("dataset", self.study(study).dataset)
        self.entry("datasets", dataset, f"detectors.{name}.dataset")
        return dataset

    def metric(self, name: str) -> str:
        """What a distance in a detector's features is called."""
        return self.detector(name).metric(name)

    @once
    def portable_detector(self, name: str) -> DetectorSpec:
        """A detector without the local paths of its files."""
        return self.detector(name).portable()

    def published_moments(self, name: str) -> str | None:
        """The local path of a detector's published moments, where it has some."""
        published = self.detector(name).published
        return published and published.path
