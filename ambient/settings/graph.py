"""The graph of jobs of a scale: which job makes a file, what it reads and is told, what lies behind it.

The workflow's rules, the doctor's estimate, what is adopted and the audit read this one graph. It is worked
out from the configuration and the table of stages alone: no Snakemake, no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ambient.settings import NAME, Experiments
from ambient.settings.entries import Entries
from ambient.settings.places import Files, folder
from ambient.settings.resolve import mapping
from ambient.specs import FigureSpec
from ambient.specs.report import PICTURES
from ambient.specs.stages import JOBS
from ambient.specs.strict import SpecError, nearest

SUFFIXES = (".csv", *(f"{part}.{kind}" for part in PICTURES for kind in ("png", "pdf")), "-audit.html")
BESIDE = tuple(f"-with-outside.{kind}" for kind in ("csv", "png", "pdf"))  # where something stands beside it
PAGES = ("report", "report-all")  # with the main tables, with everything


class Node(NamedTuple):
    """A job of the graph: its kind (a stage, or the audit's page) and its wildcards, but for the scale."""

    kind: str
    wildcards: tuple[tuple[str, str], ...] = ()

    @property
    def names(self) -> dict[str, str]:
        """Wildcard -> its value in this job."""
        return dict(self.wildcards)


class Graph:
    """The jobs of one scale."""

    def __init__(self, experiments: Experiments) -> None:
        self.experiments, self.scale = experiments, experiments.scale
        self.files = Files(experiments)

    # --- one job --------------------------------------------------------------------------------------

    def reads(self, job: Node) -> dict[str, list[str]]:
        """Role -> the files of the tree that a job reads; roles of which it reads none are left out."""
        given = {role: value(self.files, job.names)
                 for role, value in zip(JOBS[job.kind].reads, JOBS[job.kind].inputs.values(), strict=True)}
        return {role: [paths] if isinstance(paths, str) else paths for role, paths in given.items() if paths}

    def writes(self, job: Node) -> dict[str, str]:
        """Role -> the file that a job writes."""
        return {role: self.files.path(job.kind, role, **job.names) for role in JOBS[job.kind].outputs}

    def asks(self, job: Node) -> Any:
        """The specification of a job. Raises `SpecError` for a name that the scale does not have."""
        return JOBS[job.kind].asks(self.experiments, job.names)

    def outside(self, job: Node) -> dict[str, str]:
        """Option -> path of raw data or weights that the configuration names for a job."""
        given = {key.rstrip("?"): value(self.experiments, job.names)
                 for key, value in JOBS[job.kind].outside.items()}
        return {option: path for option, path in given.items() if path}

    # --- from files to jobs ---------------------------------------------------------------------------

    @cached_property
    def patterns(self) -> list[tuple[str, re.Pattern]]:
        """(kind, the path of an output as a regular expression) of every output."""
        allowed = constraints([self.experiments.entries])
        return [(kind, pattern(f"{folder(self.scale, place)}/{place}", allowed))
                for kind, row in JOBS.items()
                for place in (*row.places.values(), *row.places_beside.values())]

    def maker(self, path: str) -> Node | None:
        """The job that makes a file; None for one that no job of this scale makes.

        Where several outputs could be meant the one with the shortest wildcards is, as Snakemake takes it:
        `combined/x-annotations.safetensors` are the annotations of x, not the data of a run `x-annotations`.
        """
        matches = [(kind, match.groupdict()) for kind, place in self.patterns
                   if (match := place.fullmatch(path))]
        if not matches:
            return None
        kind, names = min(matches, key=lambda one: len("".join(one[1].values())))
        return Node(kind, tuple(sorted(names.items())))

    def behind(self, paths: Iterable[str]) -> list[Node]:
        """The jobs behind some files, each once, every one after those whose outputs it reads."""
        done: dict[Node, None] = {}
        waiting = [(self.made(path), False) for path in reversed(list(paths))]
        while waiting:
            job, ready = waiting.pop()
            if ready:
                done[job] = None
            elif job not in done:
                waiting.append((job, True))
                waiting += [(self.made(path), False) for paths in self.reads(job).values() for path in paths]
        return list(done)

    def made(self, path: str) -> Node:
        """The job that makes a file. Raises `SpecError` where there is none."""
        if (job := self.maker(path)) is None:
            raise SpecError(f"{path}: no job of the scale {self.scale} makes it")
        return job

    # --- what is asked for ----------------------------------------------------------------------------

    def main(self) -> list[str]:
        """What a bare run makes: the main tables with all that belongs to them, and the page with them."""
        return [*self.of_tables(self.experiments.main), f"{folder(self.scale)}/report.html"]

    def everything(self) -> list[str]:
        """All tables and figures of the scale, its summary, the theory, and a page with all of it."""
        figures = self.pictures_of(self.experiments.figures)
        whole = [f"{folder(self.scale)}/{name}" for name in ("summary.csv", "theory.png", "report-all.html")]
        return [*self.of_tables(self.experiments.tables), *figures, *whole]

    def of_tables(self, names: Iterable[str]) -> list[str]:
        """Tables, their figures and their audit pages."""
        return [f"{folder(self.scale)}/{name}{suffix}" for name in names
                for suffix in (*SUFFIXES, *(BESIDE if self.experiments.outside.of_table(name) else ()))]

    def pictures_of(self, names: Iterable[str]) -> list[str]:
        """Several figures, in both formats."""
        return [path for name in names for path in self.pictures(name)]

    def pictures(self, name: str) -> list[str]:
        """A figure, in both formats."""
        return [f"{folder(self.scale)}/{name}.{kind}" for kind in ("png", "pdf")]

    def target(self, name: str) -> list[str]:
        """The files that a target stands for: a file as `snakemake` is asked for it, a name alone, `all` or
        `<scale>_all`.

        Raises `SpecError` for what is none of the scale's, with the nearest that is.
        """
        place = PurePosixPath(name)
        here = folder(self.scale)
        if len(place.parts) > 1 and str(place.parent) != here and self.maker(name) is None:
            raise SpecError(f"target: got {name!r}, allowed for the scale {self.scale}: a file in {here}")
        path = name if len(place.parts) > 1 else f"{here}/{name}"
        if self.maker(path):
            return [path]
        whole = {"all": self.main, f"{self.scale}_all": self.everything}
        if place.name in whole:
            return whole[place.name]()
        if place.name in self.experiments.tables:
            return self.of_tables([place.name])
        made = [path + suffix for suffix in (".csv", ".png", ".pdf", ".html") if self.maker(path + suffix)]
        if not made:
            known = [*self.experiments.tables, *self.experiments.figures, "theory", "summary", "report",
                     "report-all", *whole]
            raise SpecError(f"target: got {name!r}, which the scale {self.scale} does not have"
                            f"{nearest(place.stem, known)}")
        return made


def constraints(scales: Iterable[Entries]) -> dict[str, str]:
    """Wildcard -> a regular expression of what it may be in some scales, by what their files name.

    No specification is made for it. Raises `SpecError` for a figure of a kind that there is not.
    """
    found = list(scales)
    figures = {name: one for each in found for name, one in kinds_of_figures(each).items()}
    galleries = {name for name, one in figures.items() if one.STAGE == "galleries"}
    names = {"scale": [each.scale for each in found], "page": PAGES,
             "table": {name for each in found for name in each.tree["tables"]},
             "sweep": {name for each in found for name in each.rows.swept},
             "gallery": galleries, "figure": figures.keys() - galleries,
             "patches": {name for name, one in figures.items() if one.PATCH_MAPS},
             "floor": {name for name, one in figures.items() if one.NOISE_FLOOR},
             "near": {name for name, one in figures.items() if one.NEIGHBOURS}}
    return dict.fromkeys(("dataset", "study", "corruption", "classifier", "annotation", "run", "detector",
                          "outside", "scorer", "encoder", "text_encoder", "judge", "than"),
                         NAME) | {"fraction": r"[0-9.e-]+", "ema_std": r"[0-9.e-]+", "seed": r"\d+"} | {
        key: "|".join(map(re.escape, sorted(values))) or "none" for key, values in names.items()}


def kinds_of_figures(entries: Entries) -> dict[str, type[FigureSpec]]:
    """Figure -> the specification of its kind."""
    try:
        return {name: FigureSpec.member(mapping(entry, f"figures.{name}"), f"figures.{name}")
                for name, entry in entries.tree["figures"].items() if entry is not None}
    except SpecError as error:
        raise SpecError(entries.located(str(error))) from None


def pattern(place: str, allowed: Mapping[str, str]) -> re.Pattern:
    """A path with wildcards in braces as a regular expression with named groups."""
    parts = re.split(r"\{(\w+)\}", place)  # text, wildcard, text, ...
    groups = [f"(?P<{name}>{allowed[name]})" for name in parts[1::2]]
    return re.compile("".join(text for pair in zip(map(re.escape, parts[::2]), [*groups, ""], strict=True)
                              for text in pair))


def scale_of(path: Path) -> tuple[str, str] | None:
    """(scale, path from where its workflow ran) of a file of a results tree; None for one of no tree."""
    parts = Path(path).parts
    if "results" not in parts:
        return None
    inside = parts[len(parts) - parts[::-1].index("results"):]
    return ("paper" if len(inside) == 1 else inside[0]), "/".join(("results", *inside))
