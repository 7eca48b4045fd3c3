"""What is known of a stage: a row of the table `ambient.specs.stages`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

PREFIX = "ambient."  # of a stage's name in manifests: `ambient.train`
WILDCARD = re.compile(r"\{(\w+)\}")
Names = Mapping[str, str]  # a job's wildcards: {"run": "ambient-blur-0.6", "seed": "0"}
# (files, names) -> path, paths or None: `files` knows where a scale's files lie (`settings.places.Files`).
Input = Callable[[Any, Names], "str | list[str] | None"]
# (settings, names) -> specification or path: `settings` are a scale's (`ambient.settings.Experiments`).
Setting = Callable[[Any, Names], Any]


@dataclass(frozen=True)
class Stage:
    """A row. The keys of `inputs` and `outside` end in `?` where a job may do without, in `*` where it may
    read none or several.

    A place of `outputs` is a path in the scale's folder with wildcards in braces; one without a slash is read
    by people, and the paper scale's lie at `results/` itself. What stands in brackets, there and in `state`,
    is there in the jobs that have its wildcard.
    """

    name: str
    spec: type
    outputs: Mapping[str, str]  # role -> place
    asks: Setting  # the specification of a job
    inputs: Mapping[str, Input] = field(default_factory=dict)  # role -> what a job reads: files of the tree
    outside: Mapping[str, Setting] = field(default_factory=dict)  # option -> path of raw data or weights
    cost: tuple[str, ...] | None = None  # wildcards that `Costs.<name>` is asked by; None: it costs little
    state: str = ""  # place of what it resumes from; without one it can't stop, nor run on several ranks
    one_rank: bool = False  # it resumes, and can't run on several ranks
    # What `ambient prune` may remove of it: weights always, other arrays when asked for, else nothing.
    prunes: Literal["weights", "arrays", ""] = ""
    counts_images: bool = False  # its manifests say how many images it saw or drew, for `ambient efficiency`
    shardable: bool = False  # its ranks may each hold a part of the weights that it trains
    rooted: bool = False  # its manifests keep the Merkle root of all manifests below

    @property
    def resumable(self) -> bool:
        """Whether it stops when it is told to and goes on later (`--state`)."""
        return bool(self.state)

    @property
    def shared(self) -> bool:
        """Whether it may run on several ranks."""
        return self.resumable and not self.one_rank

    @property
    def recorded(self) -> str:
        """Its name in manifests."""
        return PREFIX + self.name

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """The roles of its input files."""
        return tuple(map(bare, self.inputs))

    @cached_property
    def many(self) -> frozenset[str]:
        """Roles of which there may be none or several files."""
        return frozenset(bare(key) for key in self.inputs if key.endswith("*"))

    @cached_property
    def optional(self) -> frozenset[str]:
        """Roles and options that may be left out."""
        return frozenset(bare(key) for key in [*self.inputs, *self.outside] if key.endswith("?"))

    @property
    def options(self) -> tuple[str, ...]:
        """Paths on its command line that are no files of the results tree."""
        return (*map(bare, self.outside), *(("state",) if self.resumable else ()))

    @cached_property
    def places(self) -> dict[str, str]:
        """Role -> place of its outputs, without what stands in brackets."""
        return {role: re.sub(r"\[.*?\]", "", place) for role, place in self.outputs.items()}

    @cached_property
    def places_beside(self) -> dict[str, str]:
        """Role -> place of its outputs, with what stands in brackets; none where no brackets are."""
        found = {role: re.sub(r"[\[\]]", "", place) for role, place in self.outputs.items()}
        return found if found != self.places else {}

    @cached_property
    def wildcards_beside(self) -> dict[str, frozenset[str]]:
        """Role -> the wildcards of these places."""
        return {role: frozenset(WILDCARD.findall(place)) for role, place in self.places_beside.items()}

    def resumes_from(self, names: Mapping[str, object]) -> str:
        """The place of the state of the job of these names."""
        return filled(self.state, names)

    def place(self, role: str, names: Mapping[str, object]) -> str:
        """The place of one output in the job of these (or more) names."""
        whole = role in self.places_beside and self.wildcards_beside[role] <= names.keys()
        return (self.places_beside if whole else self.places)[role].format(**names)


def filled(place: str, names: Mapping[str, object]) -> str:
    """A place with its wildcards filled in; what stands in brackets stays where its wildcards are known."""
    known = set(names.keys())
    return re.sub(r"\[(.*?)\]", lambda found: found[1] if set(WILDCARD.findall(found[1])) <= known else "",
                  place).format(**names)


def bare(key: str) -> str:
    """A role or option without the mark at its end."""
    return key.rstrip("?*")


def option(role: str) -> str:
    """The command-line option of a role: `--out-pdf`."""
    return f"--{role.replace('_', '-')}"
