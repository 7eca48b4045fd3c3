"""How what a job would be asked now differs from what the manifests beside its files record.

A file's place in the tree says which job makes it; the configuration says what that job is told.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from ambient import settings
from ambient.provenance import manifest
from ambient.settings.graph import Graph, scale_of
from ambient.settings.layers import lines
from ambient.specs.stages import STAGES
from ambient.specs.strict import SpecError, build, plain


@dataclass(frozen=True)
class Difference:
    """One thing that a manifest records otherwise than the job would be asked now."""

    key: str  # `spec.params.sigma_px`, the name of code, or of a file's digest
    recorded: Any
    wanted: Any  # by the configuration, or what a file is now

    def __str__(self) -> str:
        if self.key.startswith("code"):
            return f"{self.key} has changed since it was made"
        if not self.key.startswith(("spec", "stage")):  # of files, of which the configuration says nothing
            return f"{self.key}: was {self.recorded!r} when it was made, is {self.wanted!r} now"
        return f"{self.key}: made with {self.recorded!r}, the configuration asks for {self.wanted!r}"


@dataclass(frozen=True)
class Told:
    """What a job would be told now."""

    stage: str
    spec: Any
    code: Mapping[str, str] | None = None  # None: any code will do
    outside: tuple[Path, ...] = ()  # read from outside the tree: raw data or weights first, then a rule

    @property
    def recorded(self) -> str:
        """The stage's name in manifests."""
        return STAGES[self.stage].recorded

    @cached_property
    def plain_spec(self) -> dict:
        """The specification as a manifest has it: worked out once for all outputs of the job."""
        return plain(self.spec)


def differences(found: Mapping, told: Told) -> list[Difference]:
    """How a manifest's specification and code differ from what the job would be told.

    A setting that is younger than the manifest had its default when that was written.
    """
    if found["stage"] != told.recorded:
        return [Difference("stage", found["stage"], told.recorded)]
    made = [] if found["spec"] == told.plain_spec else differences_of_specs(found["spec"], told)
    if told.code is None:
        return made
    files, code = found["code"]["files"], told.code
    return made + [Difference(f"code {name}", files.get(name), code.get(name))
                   for name in sorted(files.keys() | code.keys()) if files.get(name) != code.get(name)]


def differences_of_specs(recorded: Mapping, told: Told) -> list[Difference]:
    """The settings in which a recorded specification differs; one that is not valid now as it is written."""
    with contextlib.suppress(SpecError):
        recorded = plain(build(type(told.spec), recorded, "spec"))
    old, new = dict(lines(recorded, "spec")), dict(lines(told.plain_spec, "spec"))
    return [Difference(key, old.get(key, "nothing"), new.get(key, "nothing"))
            for key in dict.fromkeys([*new, *old]) if old.get(key, "nothing") != new.get(key, "nothing")]


@cache
def graph(folder: Path, scale: str) -> Graph | None:
    """A scale's jobs, or None where there is no such scale."""
    return Graph(settings.Experiments(folder, scale)) if scale in settings.scales(folder) else None


def of_file(path: Path, folder: Path | None = None,
            found: Mapping | None = None) -> list[Difference] | None:
    """How the manifest beside a file of a results tree differs from what its job would be asked now.

    `found` is that manifest, where it has been read. None where the configuration in `folder` (by default
    `settings.home()`) says nothing of such a file: it is of a scale, run or table that is not there. Code is
    not compared, the audit does that. Raises `ValueError` for a manifest that can't be read or a
    configuration that is refused.
    """
    place = scale_of(Path(path))
    jobs = place and graph(Path(folder or settings.home()), place[0])
    job = jobs and jobs.maker(place[1])
    if not job or job.kind not in STAGES:
        return None
    try:
        spec = jobs.asks(job)
    except SpecError:  # a name that the configuration does not have
        return None
    return differences(found or manifest.read(manifest.path_for(Path(path))), Told(job.kind, spec))
