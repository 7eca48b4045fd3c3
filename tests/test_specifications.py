"""What every stage of every run is told, at every scale, against digests that were taken once.

A change of the YAML files, or of what reads them, that should alter no result leaves `specifications.json` as
it is. One that is meant to alter a setting takes the digests anew: `python -m tests.test_specifications`.
"""

import dataclasses
import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from ambient import specs
from ambient.settings import Experiments
from ambient.specs.strict import SpecError, plain
from ambient.storage.files import canonical_json
from tests.clones import SHIPPED, configuration

ROOT = Path(__file__).parents[1]
FROZEN = Path(__file__).with_name("specifications.json")
SCALES = (*SHIPPED, "tiny", "crops")


def with_scales_of_tests(folder):
    """A copy of the YAML files, and with the scales of the tests."""
    shutil.copytree(ROOT / "tests/scales", configuration(folder) / "scales", dirs_exist_ok=True)
    return folder


def of_part(experiments, study, corruption, annotation):
    """What the jobs are told that make one part of a run's data: mixture, classifiers, annotation."""
    one, added = experiments.classifier_of(annotation), experiments.added_dataset(corruption)
    told = [corruption, experiments.mixture(study, corruption, experiments.fraction(study)),
            experiments.annotation(study, annotation), added and experiments.dataset(added)]
    for name in [one] if one else experiments.crop_classifiers(annotation):
        fraction = experiments.fraction(study, name)
        told += [experiments.classifier(study, name), experiments.mixture(study, corruption, fraction)]
    return told


def of_run(experiments, name):
    """What all jobs behind a run are told. The study's name stands in the paths of their files."""
    run = experiments.run(name)
    study = experiments.study(run.study)
    told = [run.study, experiments.dataset(study.dataset), experiments.combined(name),
            experiments.sampling(name), experiments.target(run.study), experiments.published(run.study)]
    told += [of_part(experiments, run.study, *part) for part in run.parts]
    told += [experiments.training(name, seed) for seed in study.training_seeds]
    for detector in experiments.detectors(run.study):
        made_on = experiments.detector_dataset(run.study, detector)
        told += [experiments.evaluation(name, detector), experiments.portable_detector(detector),
                 experiments.weights_of(detector), made_on, experiments.dataset(made_on)]
    return told


def of_locality(experiments, study):
    """What is told to the job that measures a study's map of contexts, and on which run's denoiser."""
    return [experiments.locality(study), experiments.locality_run(study)]


def of_figure(experiments, name):
    """What is told to the job that draws a figure, and which files it draws it from."""
    entry = experiments.figure_entry(name)
    return [experiments.figure(name), entry.study, entry.corruptions, entry.annotation, entry.run]


def told(experiments):
    """(name, function that gives what its jobs are told) of everything that a scale has."""
    for name in experiments.tree["runs"]:
        yield f"runs.{name}", lambda name=name: of_run(experiments, name)
    for study in ("faces", "dogs", "cats"):
        yield f"locality.{study}", lambda study=study: of_locality(experiments, study)
    for name in experiments.tables:
        yield f"tables.{name}", lambda name=name: experiments.table(name)
    for name in experiments.figures:
        yield f"figures.{name}", lambda name=name: of_figure(experiments, name)
    for shown in experiments.report(True).figures:
        yield f"report.{shown.name}", lambda shown=shown: shown
    for text in experiments.summary().texts:
        yield f"in_text.{text.id}", lambda text=text: text
    yield "theory", lambda: experiments.theory("theory")
    yield "main", lambda: experiments.main


def known(value, fields):
    """Specifications as plain data, without younger fields (than the digests) that have their default."""
    if dataclasses.is_dataclass(value):
        old = next((fields[base.__name__] for base in type(value).__mro__ if base.__name__ in fields), ())
        return {field.name: known(getattr(value, field.name), fields) for field in dataclasses.fields(value)
                if field.name in old or getattr(value, field.name) != default(field)}
    if isinstance(value, Mapping):
        return {key: known(one, fields) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [known(one, fields) for one in value]
    return plain(value)


def default(field):
    """A field's default; without one, what equals no setting."""
    factory = field.default_factory
    return field.default if factory is dataclasses.MISSING else factory()


def digests(folder, scale, fields):
    """Name -> start of the SHA-256 of all that its jobs are told; `refused` where there can be none."""
    experiments, made = Experiments(folder, scale), {}
    for name, of in told(experiments):
        try:
            made[name] = hashlib.sha256(canonical_json(known(of(), fields)).encode()).hexdigest()[:10]
        except SpecError:
            made[name] = "refused"
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return with_scales_of_tests(tmp_path_factory.mktemp("configuration") / "config")


@pytest.mark.parametrize("scale", SCALES)
def test_what_jobs_are_told_has_not_changed(scale, folder):
    """Names that are younger than the digests are free; none that is in them may be gone or differ.

    Tables, figures and numbers keep their order, in which they are shown; runs have none but their tables'.
    """
    frozen = json.loads(FROZEN.read_text())
    found = digests(folder, scale, frozen["fields"])
    column = frozen["scales"].index(scale)
    wanted = {name: row[column] for name, row in frozen["digests"].items() if row[column]}
    assert len(wanted) > 100 and {name: found.get(name) for name in wanted} == wanted
    shown = [name for name in wanted if not name.startswith("runs.")]
    assert [name for name in found if name in shown] == shown


def freeze(folder):
    """The digests as text, a line for each name."""
    classes = [one for one in vars(specs).values() if dataclasses.is_dataclass(one)]
    fields = {one.__name__: [field.name for field in dataclasses.fields(one)] for one in classes}
    columns = [digests(folder, scale, fields) for scale in SCALES]
    longest_first = sorted(columns, key=len, reverse=True)  # it has the others' tables and numbers, in order
    names = dict.fromkeys(name for column in longest_first for name in column)
    rows = [f"{json.dumps(name)}: {json.dumps([column.get(name) for column in columns])}" for name in names]
    classes = [f"{json.dumps(name)}: {json.dumps(own)}" for name, own in fields.items()]
    return (f'{{"scales": {json.dumps(SCALES)},\n"fields": {{\n' + ",\n".join(classes)
            + '},\n"digests": {\n' + ",\n".join(rows) + "}}\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        FROZEN.write_text(freeze(with_scales_of_tests(Path(place, "config"))))
