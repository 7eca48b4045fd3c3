"""Kinds of a thing, each one file of a folder: `kind: classifier` is what `detectors/classifier.py` says.

A file is called as its kind is called in the YAML, and no list names it: a kind more is a file more. It holds
`Spec`, the dataclass of its settings with what is known of it before a job runs, and the functions that jobs
call. Settings are checked by these files, so torch is imported inside of their functions.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from functools import cached_property
from types import ModuleType
from typing import Any, ClassVar

from ambient.specs.strict import SpecError, require


class Kinds(Mapping[str, ModuleType]):
    """The files of a folder by their names, in alphabetical order; each is imported when it is asked for."""

    def __init__(self, package: str, tag: str = "kind") -> None:
        self.package, self.tag = package, tag  # `tag`: the key of the YAML that names a kind

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The kinds that there are."""
        return tuple(sorted(one.name for one in pkgutil.iter_modules(
            importlib.import_module(self.package).__path__)))

    def file(self, name: str) -> str:
        """Where a kind stands, from the root of the repository: errors in what it does begin with that."""
        return f"{self.package.replace('.', '/')}/{name}.py"

    def __getitem__(self, name: str) -> ModuleType:
        if name not in self.names:
            raise KeyError(name)
        return importlib.import_module(f"{self.package}.{name}")

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


class OfKinds:
    """Base of a specification that has kinds: `Base(...)` is an object of the `Spec` of the kind it names.

    Raises `SpecError` for a kind that there is not.
    """

    KINDS: ClassVar[Kinds]

    def __new__(cls, *arguments: Any, **named: Any) -> OfKinds:
        given = named
        if "KINDS" in vars(cls):  # the base itself, not a kind's
            keys = [field.name for field in dataclasses.fields(cls) if not field.kw_only]
            given = dict(zip(keys, arguments, strict=False)) | named
            cls = cls.member(given, cls.__name__)
        return object.__new__(cls)

    @classmethod
    def member(cls, values: Mapping[str, Any], where: str) -> type:
        """The `Spec` of the kind that plain data name. Raises `SpecError` where they name none."""
        tag = cls.KINDS.tag
        default = {field.name: field.default for field in dataclasses.fields(cls)}[tag]
        kind = values.get(tag, default)
        if kind is dataclasses.MISSING:
            raise SpecError(f"{where}: missing key {tag!r}")
        require(kind in cls.KINDS, f"{where}.{tag}", kind, ", ".join(cls.KINDS))
        return cls.KINDS[kind].Spec
