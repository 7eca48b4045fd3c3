"""The scales of a workflow's run: each one's configuration is checked when its graph is made."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from ambient.settings import Experiments
from ambient.settings.graph import Graph, scale_of
from ambient.settings.unreached import check_entries


class Graphs(dict[str, Graph]):
    """Scale -> its graph, made when it is first asked for.

    Raises `SpecError` for a scale whose configuration is refused.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __missing__(self, scale: str) -> Graph:
        found = Experiments(self.folder, scale)
        check_entries(found)
        self[scale] = made = Graph(found)
        return made


def asked_for(targets: Iterable[str], jobs: Iterable[Any], scales: Collection[str],
              default: str) -> list[str]:
    """The scales that a run is about.

    They are those of its targets, which are files or rules such as `paper_all` and `text_demo`, and those of
    single jobs that it is asked for. Where nothing names one, and for `all`, it is the default one.
    """
    found = {named(target) for target in targets} | {job.wildcards_dict.get("scale", "paper") for job in jobs}
    asked = {scale if scale in scales else default for scale in found} or {default}
    return [scale for scale in scales if scale in asked]


def named(target: str) -> str:
    """What stands in a target in the place of a scale."""
    if place := scale_of(Path(target)):
        return place[0]
    first, _, last = target.partition("_")
    return first if last == "all" else last
