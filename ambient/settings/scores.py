"""What samples are scored by: a study's detectors, and what a distance in their features is called."""

from __future__ import annotations

import dataclasses

from ambient.settings.captioned import check_judging
from ambient.settings.compatible_data import check_ranked, check_recorded
from ambient.settings.resolve import once
from ambient.settings.samplings import Samplings
from ambient.specs import DetectorSpec, EvaluationSpec, JudgeSpec, LandmarksSpec, ScorerSpec
from ambient.specs.strict import build, require


class Scores(Samplings):
    """The stages of a scale, with those that sample and score."""

    def detectors(self, study: str) -> tuple[str, ...]:
        """The detectors of a study: a table's `value` is by the first one, others stand beside it."""
        names = self.study(study).detector
        for name in names:
            self.entry("detectors", name, f"studies.{study}.detector")
        return names

    def check_scorer(self, dataset: str, scorer: str, where: str, within: str = "all") -> None:
        """Refuse a scorer that is not there or can't score a dataset, and ranks in classes that has none."""
        self.entry("scorers", scorer, where)
        check_ranked(self, dataset, scorer, within, where)

    def sample_scorer(self, run: str, name: str) -> ScorerSpec:
        """The specification of the `sample_scores` stage: with how many samples of the run have a caption
        together, and with the detector that it asks, where these count."""
        spec = self.scorer(name).portable()
        if spec.CAPTIONED:
            spec = dataclasses.replace(spec, each=self.sampling(run).captions_each)
        if hasattr(spec, "asked"):
            spec = dataclasses.replace(spec, asked=self.portable_detector(spec.detector))
        return spec

    def named_judge(self, name: str) -> JudgeSpec:
        """A judge by name, before it is known what it judges."""
        spec = build(JudgeSpec, self.entry("judges", name, "judges"), f"judges.{name}")
        check_recorded(f"judges.{name}.path", spec.path)
        return spec

    def judge(self, name: str, run: str, than: str) -> JudgeSpec:
        """The specification of the `judge` stage of two runs. Raises `SpecError` for samples that are no
        pairs."""
        spec, ours, theirs = self.named_judge(name), self.sampling(run), self.sampling(than)
        for key in ("captions", "captions_each", "num_samples", "seeds"):
            one, other = getattr(ours, key), getattr(theirs, key)
            require(one == other, f"{self.sampling_key(than)}.{key}", other, f"{one}, as {run} has: a judge "
                    "compares samples of the same captions and latents")
        require(ours.captions is not None, f"{self.sampling_key(run)}.captions", None,
                "a name in datasets: a judge is told the captions of samples")
        check_judging(self, name, spec)
        return dataclasses.replace(spec.portable(), each=ours.captions_each)

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

    def evaluation(self, run: str, name: str | None = None) -> EvaluationSpec:
        """The specification of the `evaluate` stage by a detector; None: by the study's first."""
        name = name or self.detectors(self.run(run).study)[0]
        detector, metric = self.detector(name), self.metric(name)
        sampling = self.sampling(run)
        return EvaluationSpec(metric, detector.portable(), sampling.seeds,
                              earlier_seeds=sampling.earlier_seeds)

    def landmarks(self, study: str, name: str) -> LandmarksSpec:
        """The specification of the `landmarks` stage: of as many images as the study's samples are."""
        return LandmarksSpec(self.metric(name), self.portable_detector(name),
                             self.study_sampling(study).num_samples)

    def portable_detector(self, name: str) -> DetectorSpec:
        """A detector without the local paths of its files."""
        return self.detector(name).portable()

    def published_moments(self, name: str) -> str | None:
        """The local path of a detector's published moments, where it has some."""
        published = self.detector(name).published
        return published and published.path
