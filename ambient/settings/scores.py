"""What samples are scored by: distances, scorers and judges."""

from __future__ import annotations

import dataclasses

from ambient.settings.captioned import check_judging
from ambient.settings.compatible_data import check_ranked, check_recorded
from ambient.settings.samplings import Samplings
from ambient.specs import EvaluationSpec, JudgeSpec, LandmarksSpec, ScorerSpec
from ambient.specs.strict import build, require


class Scores(Samplings):
    """The stages of a scale, with those that sample and score."""

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

    def evaluation(self, run: str, name: str | None = None) -> EvaluationSpec:
        """The specification of the `evaluate` stage by a detector; None: by the study's first."""
        name = name or self.detectors(self.run(run).study)[0]
        sampling = self.sampling(run)
        return EvaluationSpec(self.metric(name), self.portable_detector(name), sampling.seeds,
                              earlier_seeds=sampling.earlier_seeds)

    def landmarks(self, study: str, name: str) -> LandmarksSpec:
        """The specification of the `landmarks` stage: of as many images as the study's samples are."""
        return LandmarksSpec(self.metric(name), self.portable_detector(name),
                             self.study_sampling(study).num_samples)
