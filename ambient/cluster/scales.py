"""The scales of a workflow's run: each one's configuration is checked when its graph is made."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path

from ambient.settings import Experiments
from ambient.settings.graph import Graph, scale_of


class Graphs(dict[str, Graph]):
    """Scale -> its graph, made when it is first asked for.

    Raises `SpecError` for a scale whose configuration is refused.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __missing__(self, scale: str) -> Graph:
        self[scale] = made = Graph(Experiments(self.folder, scale))
        return made


def asked_for(targets: Iterable[str], scales: Collection[str], default: str) -> list[str]:
    """The scales of a run's targets, which are files, or rules such as `paper_all`.

    Where a target names none, and without targets, it is the default one.
    """
    found = set().union(*(words(target) & set(scales) or {default} for target in targets)) or {default}
    return [scale for scale in scales if scale in found]


def words(target: str) -> set[str]:
    """The words of a target, and the scale of one that is a file."""
    place = scale_of(Path(target))
    return {*re.split(r"[/_]", target), *([place[0]] if place else [])}
