"""Every entry of a scale by itself, also where no table and no figure asks for it.

A slip in one would stay until somebody uses it. What an entry names has to be among the entries; whether its
files are on this machine is not asked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ambient.settings.files import LIKE
from ambient.specs import AnnotationSpec, ClassifierSpec, LocalitySpec, SamplingSpec, TrainingSpec
from ambient.specs.strict import SpecError, refuse_unknown

if TYPE_CHECKING:
    from ambient.settings.experiments import Experiments

# Sections of a study, and what they have. The methods of annotation have settings of their own.
SECTIONS = {"classifier": ClassifierSpec, "annotation": AnnotationSpec, "training": TrainingSpec,
            "sampling": SamplingSpec, "locality": LocalitySpec}
BESIDE = {"locality": ("run",)}  # keys of a section that its specification has not


def check_entries(found: Experiments) -> None:
    """Raise `SpecError` for the first entry that can't be used, with its file.

    One that others are `like` may lack keys, which these add.
    """
    for section, check in checks(found).items():
        unfinished = {other for name in found.present(section) for other in likes(found, section, name)}
        for name in found.present(section):
            try:
                check(name)
            except SpecError as error:
                if not (name in unfinished and ": missing " in str(error)):  # a key, or a parameter
                    raise SpecError(found.entries.located(str(error))) from None


def checks(found: Experiments) -> dict[str, Callable[[str], object]]:
    """Section -> what is asked of an entry of it."""
    return {"datasets": found.dataset, "scorers": found.scorer, "encoders": found.encoder,
            "text_encoders": found.text_encoder, "detectors": found.detector, "judges": found.named_judge,
            "studies": lambda name: check_study(found, name),
            "corruptions": lambda name: check_corruption(found, name),
            "classifiers": lambda name: in_any_study(found, lambda study: found.classifier(study, name)),
            "annotations": lambda name: in_any_study(found, lambda study: found.annotation(study, name)),
            "runs": lambda name: check_run(found, name), "sweeps": found.sweep}


def likes(found: Experiments, section: str, name: str) -> list[str]:
    """The entries that one is like."""
    return found.entries.likes(section, name, len(found.entries.layers) - 1)[0] if section in LIKE else []


def whole_studies(found: Experiments) -> Iterator[str]:
    """The studies that have data: others are there for those that are like them."""
    for name in found.present("studies"):
        if found.tree["studies"][name].get("dataset") is not None:
            yield name


def in_any_study(found: Experiments, ask: Callable[[str], object]) -> None:
    """Ask for a preset in one study after the other, until one can have it. Raises the first one's error."""
    first = None
    for study in whole_studies(found):
        try:
            ask(study)
            return
        except SpecError as error:
            first = first or error
    if first is not None:
        raise first


def check_study(found: Experiments, name: str) -> None:
    """A study's own keys, and those of its sections, which a preset or a run may add to."""
    for section, cls in SECTIONS.items():
        kinds = [one.Spec for one in cls.KINDS.values()] if section == "annotation" else [cls]
        known = {field.name: None for kind in kinds for field in dataclasses.fields(kind)}
        refuse_unknown(found.tree["studies"][name].get(section) or {}, [*known, *BESIDE.get(section, ())],
                       f"studies.{name}.{section}")
    found.study(name)


def check_corruption(found: Experiments, name: str) -> None:
    """A corruption of pixels has its parameters; what an operation on a dataset names is there."""
    from ambient.data import corruptions  # numpy and scipy: for who asks for a whole scale only

    entry = found.entry("corruptions", name, "corruptions")
    if "op" not in entry:
        raise SpecError(f"corruptions.{name}: missing key 'op'")
    if found.operation(name) is not None:
        found.added_dataset(name)
        found.scorer_of(name)
        return
    op, params = entry["op"], {key: value for key, value in entry.items() if key not in ("op", "label")}
    try:
        corruptions.validate(op, params)
    except ValueError as error:
        raise SpecError(f"corruptions.{name}: {error}") from None


def check_run(found: Experiments, name: str) -> None:
    """What a run says, and its training and sampling where the scale has its study."""
    study = found.run(name).study
    if found.tree["studies"][study] is not None:
        found.first_training(name)
        found.sampling(name)
