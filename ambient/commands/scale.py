"""What the commands ask of a scale: its settings, the run that is meant, where its files lie."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ambient import settings
from ambient.provenance import manifest, merkle
from ambient.settings.experiments import Experiments
from ambient.settings.places import Files
from ambient.specs.strict import nearest
from ambient.storage.files import sha256

RULE = ("the row of the scale's main tables whose annotation is learnt, by a noise classifier or by "
        "classifiers of crops; where there are several, one has to be named")


def experiments_of(scale: str) -> Experiments:
    """The settings of a scale. Raises `ValueError` for one that is not there, or is refused."""
    folder = settings.home()
    known = settings.scales(folder)
    if scale not in known:
        raise ValueError(f"{folder / 'scales'}: no such scale: {scale!r}{nearest(scale, known)}")
    return Experiments(folder, scale)


def learnt_runs(experiments: Experiments) -> list[str]:
    """Every row of the scale's main tables whose annotation is learnt."""
    rows = [row for name in experiments.main for row in experiments.tables[name].rows]
    return list(dict.fromkeys(row.run for row in rows if row.annotated))


def learnt_run(experiments: Experiments) -> str:
    """The run that a command takes where none is named, by `RULE`. Raises `ValueError` where it isn't one."""
    runs = learnt_runs(experiments)
    if len(runs) != 1:
        which = f"{len(runs)} rows of its main tables" if runs else "no row of its main tables"
        rows = [row.run for name in experiments.main for row in experiments.tables[name].rows]
        allowed = ", ".join(runs or dict.fromkeys(rows))
        raise ValueError(f"--run: the scale {experiments.scale} has {which} with a learnt annotation: name a "
                         f"run ({allowed})")
    return runs[0]


@dataclass(frozen=True)
class Chosen:
    """One run of a scale, and one of its training seeds."""

    experiments: Experiments
    run: str
    seed: int

    @property
    def files(self) -> Files:
        """Where the scale's files lie."""
        return Files(self.experiments)

    @property
    def denoiser(self) -> Path:
        """The run's weights. Raises `ValueError` where they are not there."""
        return existing(self.files.denoiser(self.run, self.seed))


def add_options(parser: argparse.ArgumentParser, rule: str = RULE) -> None:
    """The options by which a run is chosen, without those of `add_training_seed`. `rule`: where none is."""
    parser.add_argument("scale", metavar="SCALE", help="a scale of config/scales, such as demo")
    parser.add_argument("--run", help=f"the run, by its name (default: {rule})")


def add_training_seed(parser: argparse.ArgumentParser) -> None:
    """The option by which one of a run's trainings is chosen."""
    parser.add_argument("--training-seed", type=int, metavar="N",
                        help="which of the run's trainings (default: the first training seed of its study)")


def chosen(given: argparse.Namespace, default: Callable[[Experiments], str] = learnt_run) -> Chosen:
    """The run that the options mean, or the scale's `default` one.

    Raises `ValueError` for what the scale does not have.
    """
    experiments = experiments_of(given.scale)
    run = given.run or default(experiments)
    known = experiments.tree["runs"]
    if run not in known:
        raise ValueError(f"--run: the scale {given.scale} has no run {run!r}{nearest(run, known)}")
    experiments.validate(run)
    seeds = experiments.study(experiments.run(run).study).training_seeds
    asked = getattr(given, "training_seed", None)
    seed = seeds[0] if asked is None else asked
    if seed not in seeds:
        raise ValueError(f"--training-seed: got {seed}, allowed: {', '.join(map(str, seeds))}")
    return Chosen(experiments, run, seed)


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Raise `ValueError` naming the option where a place to write to can't be made."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"--out {out}: can't be written ({error.strerror}): give another place") from None


def existing(path: str) -> Path:
    """A file of the results tree. Raises `ValueError` where it is not there."""
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file; make it with: snakemake --cores 2 {path}")
    return Path(path)


@dataclass(frozen=True)
class Origin:
    """What is recorded of an artefact: its digest, and the Merkle root of all manifests that it rests on."""

    sha256: str
    root: str
    manifests: int

    def plain(self) -> dict:
        """For JSON."""
        return {"sha256": self.root, "manifests": self.manifests}


def origin(path: Path) -> Origin:
    """The origin of an artefact. Raises `ValueError` where it is not what its manifest says."""
    digest = intact(path)["sha256"]
    root = merkle.of_inputs(path, [path])
    return Origin(digest, root["sha256"], root["manifests"])


def intact(path: Path) -> Mapping:
    """The manifest of an artefact. Raises `ValueError` where there is none, or it is of another file."""
    record = manifest.path_for(path)
    if not record.is_file():
        raise ValueError(f"{path}: has no manifest, so nobody can say how it was made: make it again with: "
                         f"snakemake --cores 2 {path}")
    try:
        found = manifest.read(record)
    except ValueError as error:
        raise ValueError(f"{error}: take it away, and make {path} again with: snakemake --cores 2 {path}"
                         ) from None
    if found["sha256"] != sha256(path):
        raise ValueError(f"{path}: not what its manifest says; see: python -m ambient audit {path}")
    return found


def beside(weights: Path, path: str) -> Path:
    """A file that is used with weights: mixture, encoder, guide, captions, samples of them.

    Raises `ValueError` where it is not there, is not what its manifest says, or one of the two was made from
    another state of the other.
    """
    made = {one: intact(one)["sha256"] for one in (weights, existing(path))}
    for artefact, found in merkle.below(made, merkle.recorded).items():
        for entry in (one for entries in found["inputs"].values() for one in entries):
            other = merkle.located(artefact, entry["path"])
            if made.get(other, entry["sha256"]) != entry["sha256"]:
                raise ValueError(f"{artefact}: was made from another {other} than the one that is there now: "
                                 f"make it again with: snakemake --cores 2 {artefact}")
    return Path(path)
