"""How each run is sampled, from which averages of weights, and what guides it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from ambient.settings.detectors import Detectors
from ambient.settings.resolve import evaluating, mapping
from ambient.specs import GuideSpec, ReconstructionSpec, SamplingSpec, TrainingSpec
from ambient.specs.strict import SpecError, build, plain, require


class Samplings(Detectors):
    """The stages of a scale, with those that sample."""

    def __init__(self, folder: Path | str, scale: str) -> None:
        super().__init__(folder, scale)
        self.samplings: dict[str, SamplingSpec] = {}  # of runs that were asked for

    def sampling_key(self, run: str) -> str:
        """The dotted key under which stands how a run is sampled: its own, or its study's."""
        found = self.run(run)
        return f"runs.{run}.sampling" if found.overrides["sampling"] else f"studies.{found.study}.sampling"

    def sampling(self, run: str) -> SamplingSpec:
        """The specification of the `sample` stage."""
        if run not in self.samplings:
            self.samplings[run] = self.resolved_sampling(run)
        return self.samplings[run]

    def resolved_sampling(self, run: str) -> SamplingSpec:
        """The specification of the `sample` stage, worked out from the files."""
        where, values = self.sampling_key(run), self.sampling_values(run)
        if values.get("guidance", 1) == 1:  # the guide is not asked
            values.pop("guide", None)
        if values.get("guide") is not None:
            values["guide"] = plain(self.guide(run, values["guide"], values.get("ema_std")))
        if values.get("captions") is not None:
            self.entry("datasets", values["captions"], f"{where}.captions")
        if name := self.finds_best(run):
            values["best_by"] = plain(self.portable_detector(name))
        spec = build(SamplingSpec, values, where)
        spec = evaluating(spec, where, [self.first_training(run).network.kind])
        encoder = self.study(self.run(run).study).encoder
        return dataclasses.replace(spec, encoder=encoder and self.encoder(encoder).kind)

    def sampling_values(self, run: str) -> dict:
        """What the files say of how a run is sampled."""
        found = self.run(run)
        return self.section(found.study, "sampling", found.overrides["sampling"])

    def finds_best(self, run: str) -> str | None:
        """The detector, one of the study's, that finds the snapshot that is sampled with all seeds."""
        name, known = self.sampling_values(run).get("best_by"), self.detectors(self.run(run).study)
        require(name in (None, *known), f"{self.sampling_key(run)}.best_by", name,
                f"null or one of the study's detectors: {', '.join(known)}")
        return name

    def study_sampling(self, study: str) -> SamplingSpec:
        """How the runs of a study are sampled that say nothing else, without a guide."""
        values = {key: value for key, value in self.section(study, "sampling").items()
                  if key not in ("guidance", "guide", "best_by")}
        return build(SamplingSpec, values, f"studies.{study}.sampling")

    def guide(self, run: str, entry: Mapping, ema_std: float | None) -> GuideSpec:
        """The denoiser that guides a run, of an entry `{run: NAME, nimg: ..., ema_std: ...}`.

        Its average has the run's own width unless the entry says another one.
        """
        where = f"{self.sampling_key(run)}.guide"
        values = mapping(entry, where)
        if values.get("told") is False:
            return build(GuideSpec, values | {"network": self.first_training(run).network.kind}, where)
        name = values.pop("run", None)
        self.entry("runs", name, f"{where}.run")
        kind = self.first_training(name).network.kind
        require(values.get("network", kind) == kind, f"{where}.network", values.get("network"),
                f"{kind}, the kind of the network of {name}; it may be left out")
        return build(GuideSpec, {"ema_std": ema_std} | values | {"network": kind}, where)

    def guiding(self, run: str) -> str | None:
        """The run whose training guides the samples of a run; None where nothing does."""
        if not self.sampling(run).guided_by_another:
            return None
        return self.run(self.sampling_values(run)["guide"]["run"]).trained

    def own_training(self, run: str, seed: int) -> TrainingSpec:
        """The specification of the `train` stage. Raises `SpecError` for a run that shares a training."""
        trained = self.run(run).trained
        if trained != run:
            raise SpecError(f"runs.{run}: has no training of its own: ask for that of {trained}")
        return self.training(run, seed)

    def reconstruction(self, run: str, ema_std: float) -> ReconstructionSpec:
        """The specification of the `reconstruct` stage: at the snapshots of the run that are drawn from with
        that width, and at the last one, by which a file of weights is known as a training's; where nothing is
        drawn, at each of them."""
        every = self.first_training(run).snapshots
        drawn = self.drawn_from.get((run, ema_std), every)
        return ReconstructionSpec(ema_std, tuple(sorted({*drawn, every[-1]})))

    @cached_property
    def drawn_from(self) -> dict[tuple[str, float | None], set[int]]:
        """(training, width) -> the snapshots that samples of some run are drawn from, or guided by."""
        found: dict[tuple[str, float | None], set[int]] = {}
        for run in self.entries.names("runs"):
            spec, trained = self.sampling(run), self.run(run).trained
            snapshots = self.first_training(trained).snapshots
            earlier = snapshots if spec.seeds_at(last=False) else ()
            found.setdefault((trained, spec.ema_std), set()).update(earlier, snapshots[-1:])
            if guide := self.guiding(run):
                nimg = spec.guide.nimg or self.first_training(guide).snapshots[-1]
                found.setdefault((guide, spec.guide.ema_std), set()).add(nimg)
        return found
