"""How each run is trained, and from which phase before it its training begins."""

from __future__ import annotations

from ambient.settings.encodings import Encodings
from ambient.settings.resolve import mapping, once, said_by
from ambient.specs import CombineSpec, StartSpec, TrainingSpec
from ambient.specs.strict import SpecError, build, plain, require


class Trainings(Encodings):
    """The stages of a scale, with those that train."""

    def combined(self, run: str) -> CombineSpec:
        """The specification of the `combine` stage."""
        return CombineSpec(tuple("/".join(part) for part in self.run(run).parts), not self.bare(run))

    def bare(self, run: str) -> bool:
        """Whether a run's mixtures are combined without the images that they have."""
        made = self.run(run)
        shared = any(self.shares_latents(made.study, corruption) for corruption, _ in made.parts)
        return bool(made.also) and self.study(made.study).encoder is not None and not shared

    @once
    def training(self, run: str, seed: int) -> TrainingSpec:
        """The specification of the `train` stage."""
        found, key = self.run(run), self.training_key(run)
        values = self.section(found.study, "training", found.overrides["training"], {"seed": seed})
        if values.get("start") is not None:
            values["start"] = plain(self.start(run, seed, mapping(values["start"], f"{key}.start")))
        study_key = f"studies.{found.study}.training"
        try:
            return build(TrainingSpec, values, study_key)
        except SpecError as error:
            rest = str(error).removeprefix(study_key)
            blamed = said_by(found.overrides["training"], rest)
            raise SpecError(f"runs.{run}.training{rest}" if blamed else str(error)) from None

    def first_seed(self, run: str) -> int:
        """The first seed that a run is trained with."""
        return self.study(self.run(run).study).training_seeds[0]

    def first_training(self, run: str) -> TrainingSpec:
        """The specification of a run's first training, for what does not depend on the seed."""
        return self.training(run, self.first_seed(run))

    def training_key(self, run: str) -> str:
        """The dotted key under which stands how a run is trained: its own, or its study's."""
        found = self.run(run)
        return f"runs.{run}.training" if found.overrides["training"] else f"studies.{found.study}.training"

    def phase_before(self, run: str) -> str | None:
        """The run whose training a run's begins from; None where it begins from initial weights."""
        found = self.run(run)
        start = self.section(found.study, "training", found.overrides["training"]).get("start")
        return None if start is None else mapping(start, f"{self.training_key(run)}.start").get("run")

    def phases_before(self, run: str) -> list[str]:
        """The runs before a run, the nearest first. Raises `SpecError` for one that begins from itself."""
        found, name = [], self.phase_before(run)
        while name is not None:
            where = f"{self.training_key(([run, *found])[-1])}.start.run"
            self.entry("runs", name, where)
            require(self.run(name).trained == name, where, name, "a run with a training of its own")
            require(name not in (run, *found), where, name, "a run that does not begin from this one")
            found.append(name)
            name = self.phase_before(name)
        return found

    def start(self, run: str, seed: int, values: dict) -> StartSpec:
        """The phase that a run begins from, of an entry `{run: NAME, nimg: ..., moments: ...}`.

        Raises `SpecError` for a snapshot that it does not have, or moments that it does not keep.
        """
        where, phase = f"{self.training_key(run)}.start", self.phases_before(run)[0]
        before, study = self.training(phase, seed), self.study(self.run(phase).study)
        require(seed in study.training_seeds, f"{where}.run", phase,
                f"a run that is trained with the seed {seed}, as {run} is")
        nimg = values.get("nimg") or before.snapshots[-1]
        require(nimg in before.snapshots, f"{where}.nimg", nimg,
                f"null (the last), or a snapshot of {phase}: {', '.join(map(str, before.snapshots))}")
        moments = values.get("moments", False)
        kept = before.keep_state and nimg == before.snapshots[-1]
        require(not moments or kept, f"{where}.moments", moments,
                f"false, or the last snapshot of a run with keep_state: true; {phase}: {before.keep_state}")
        return build(StartSpec, {key: one for key, one in values.items() if key not in ("run", "seen")} | {
            "nimg": nimg, "moments": moments, "seen": before.seen + nimg}, where)
