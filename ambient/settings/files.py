"""Which YAML files make up a scale, and what each of them says of the entries that it names.

A scale is the base (data, presets, studies, theory, and a file for each table), then each scale that it
`extends`, then itself, then this machine's local.yaml. Each of these layers may change what stands before it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ambient.settings.layers import load
from ambient.specs.strict import SpecError, nearest, refuse_unknown, require

SECTIONS = ("datasets", "scorers", "corruptions", "encoders", "text_encoders", "detectors", "judges",
            "classifiers", "annotations", "studies", "runs", "sweeps", "tables", "theory", "figures", "main",
            "in_text")
BASE = ("data.yaml", "models.yaml", "studies.yaml", "theory.yaml")
OF_A_TABLE = ("title", "defaults", "rows")  # keys of a table's file, which is named after its table
# A name that no earlier layer has is an entry of its own if it says all of these (or `like`), else a slip.
COMPLETE = {
    "datasets": ("source", "resolution", "channels"), "scorers": ("kind",), "corruptions": ("op",),
    "encoders": ("kind",), "text_encoders": ("kind",),
    "detectors": ("kind",), "judges": ("kind",),
    "classifiers": ("crop",), "annotations": ("method",), "runs": ("study", "corruption", "annotation"),
    "studies": ("dataset", "clean_fraction", "mixture_seed", "training_seeds", "detector", "classifier",
                "annotation", "training", "sampling"),
    "sweeps": ("of",), "tables": ("title", "rows"), "figures": ("title", "kind"), "in_text": ("of", "paper")}
LIKE = ("datasets", "scorers", "corruptions", "encoders", "text_encoders", "detectors", "judges",
        "classifiers", "annotations", "studies", "figures")
NAME = r"[a-z0-9][a-z0-9.-]*"  # of what is part of a path
TAKEN = ("report", "report-all", "summary", "theory")  # files of every scale, beside its tables and figures
NAMED = {"tables": r"[a-z0-9][a-z0-9_.-]*", "figures": r"[a-z0-9][a-z0-9_.-]*", "in_text": r"\w+"}


@dataclass(frozen=True)
class Written:
    """What one file says of an entry, and the dotted key under which it says so."""

    file: Path
    key: str
    value: Any

    def refuse(self, rest: str) -> SpecError:
        """The error that begins with this file and key."""
        return SpecError(f"{self.file}: {self.key}{rest}")


Layer = dict[str, dict[str, Written]]  # section -> name -> what is written there


def base_files(folder: Path) -> list[Path]:
    """The files that every scale is laid over: tables in the order of their names, 2 before 10."""
    def order(path: Path) -> list:
        return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", str(path))]

    experiments = sorted((folder / "experiments").rglob("*.yaml"), key=order)
    return [folder / name for name in BASE] + experiments


def lineage(folder: Path, scale: str | None) -> list[str]:
    """The scale, after those that it `extends`, the remotest first. Raises `SpecError` for a circle."""
    found: list[str] = []
    name: Any = scale
    while name is not None:
        path = scale_file(folder, name)
        if name in found:
            raise SpecError(f"{path}: extends: {name!r} extends itself")
        found.insert(0, name)
        name = load(path).get("extends")
        known = sorted(one.stem for one in (folder / "scales").glob("*.yaml"))
        require(name is None or name in known, f"{path}: extends", name, f"a scale: {', '.join(known)}")
    return found


def scale_file(folder: Path, scale: str) -> Path:
    """Where a scale is written down."""
    return folder / "scales" / f"{scale}.yaml"


def files_of(folder: Path, scale: str | None) -> list[Path]:
    """The files of a scale, the strongest last; None: those of all scales. local.yaml is none of them."""
    own = [scale_file(folder, name) for name in lineage(folder, scale)]
    return base_files(folder) + own


def layers(folder: Path, scale: str) -> list[Layer]:
    """What the files of a scale say, the strongest last. Raises `SpecError` for names that are slips."""
    made = [read(base_files(folder), folder)]
    local = folder / "local.yaml"
    for path in [*(scale_file(folder, name) for name in lineage(folder, scale)), *[local][: local.exists()]]:
        layer = read([path], folder)
        if path == local:
            layer = without_others(layer, made, folder)
        check_new(layer, made)
        made.append(layer)
    return made


def without_others(local: Layer, before: list[Layer], folder: Path) -> Layer:
    """local.yaml lies over every scale: what it says of entries that only other scales have is left out."""
    scales = [read([path], folder) for path in sorted((folder / "scales").glob("*.yaml"))]

    def of_another(section: str, name: str, value: Any) -> bool:
        base = value.get("like", name) if isinstance(value, Mapping) else name
        here = any(base in layer[section] for layer in before) or (base == name and complete(section, value))
        return not here and any(base in layer[section] for layer in scales)

    return {section: {name: written for name, written in entries.items()
                      if not of_another(section, name, written.value)} for section, entries in local.items()}


def read(paths: list[Path], folder: Path) -> Layer:
    """One layer, of several files. Raises `SpecError` for an unknown section, or an entry in two files."""
    layer: Layer = {section: {} for section in SECTIONS}
    for path in paths:
        loaded = {key: value for key, value in load(path).items() if key != "extends"}
        if path.is_relative_to(folder / "experiments") and set(loaded) & set(OF_A_TABLE):
            loaded = {"tables": {path.stem: loaded}}
        refuse_unknown(loaded, SECTIONS, str(path))
        for section, entries in loaded.items():
            entries = entries or {}
            require(isinstance(entries, dict), f"{path}: {section}", entries, "names and their settings")
            for name, value in entries.items():
                if name in layer[section]:
                    raise SpecError(f"{path}: {section}: {name!r} stands in {layer[section][name].file} too: "
                                    "keep one of them")
                allowed = NAMED.get(section, NAME)
                require(re.fullmatch(allowed, name) is not None or section in ("main", "theory"),
                        f"{path}: {section}: the name", name, "small letters, digits, dots and dashes")
                require(section not in ("tables", "figures") or name not in TAKEN,
                        f"{path}: {section}: the name", name,
                        "another one: every scale has a file of this name")
                layer[section][name] = Written(path, f"{section}.{name}", value)
    return layer


def check_new(layer: Layer, before: list[Layer]) -> None:
    """A scale may bring entries of its own, which are complete. Another new name is most likely a slip."""
    # `rows` knows all names of runs, and `Experiments` what may be on the main page.
    for section in [section for section in SECTIONS if section not in ("runs", "main")]:
        known = list(dict.fromkeys(name for earlier in before for name in earlier[section]))
        for name, written in layer[section].items():
            if name not in known and not complete(section, written.value):
                raise SpecError(f"{written.file}: {section}: {slip(section, name, known)}")


def slip(section: str, name: str, known: list[str]) -> str:
    """What is said of a new name with too few settings to be an entry of its own."""
    needs = f"; a new one has {', '.join(COMPLETE[section])}" if section in COMPLETE else ""
    like = ", or like: another" if section in LIKE else ""
    return f"unknown name {name!r}{nearest(name, known)}{needs}{like}"


def complete(section: str, value: Any) -> bool:
    """Whether an entry says enough to be one of its own."""
    keys = set(value) if isinstance(value, Mapping) else set()
    return (section in LIKE and "like" in keys) or (section in COMPLETE and keys >= set(COMPLETE[section]))
