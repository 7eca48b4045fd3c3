"""Where a results tree begins and ends: nothing outside it is opened."""

from __future__ import annotations

import os
from pathlib import Path

from ambient.provenance import manifest
from ambient.storage import regular

DEPTH = 8  # folders looked upwards for the top of a tree
FOLDERS = ("data", "scores", "mixtures", "classifiers", "annotations", "runs", "detectors")  # of one scale


class Tree:
    """A results tree: its top folder, and which paths lie in it."""

    def __init__(self, start: Path) -> None:
        self.top = top_of(Path(os.path.abspath(start)))
        self.real = os.path.realpath(self.top)
        self.folders: dict[str, str] = {}
        self.scales: dict[str, bool] = {}

    def real_path(self, path: Path) -> str:
        """The path with symlinks followed; each folder is looked up once."""
        place, name = os.path.split(path)
        folder = self.folders.get(place)
        if folder is None:
            folder = self.folders[place] = os.path.realpath(place)
        found = str(path) if folder == place else os.path.join(folder, name)
        return os.path.realpath(found) if os.path.islink(found) else found

    def escape(self, path: Path) -> str | None:
        """How an absolute, normalised path leaves the tree; None for one that stays inside."""
        if not within(str(path), str(self.top)):
            return f"leads out of {self.top.name}"
        if not within(self.real_path(path), self.real):
            return f"is a symlink that leads out of {self.top.name}"
        return None

    def scale(self, path: Path) -> str | None:
        """The scale's folder that a path lies in; None at the top itself or in a tree of one scale."""
        first, below, _ = str(path).removeprefix(os.path.join(self.top, "")).partition(os.sep)
        if not below:
            return None
        if first not in self.scales:
            self.scales[first] = is_scale(self.top / first)
        return first if self.scales[first] else None

    def mixed(self, path: Path, other: Path) -> str | None:
        """The other scale that `other`, an input of `path`, is of; None where the two belong together."""
        theirs = self.scale(other)
        ours = self.scale(path) or ("paper" if os.path.dirname(path) == str(self.top) else theirs)
        return theirs if theirs and theirs != ours else None


def within(path: str, folder: str) -> bool:
    """Whether a real path is a folder or lies below it."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def is_scale(folder: Path) -> bool:
    """Whether a folder holds the artefacts of one scale."""
    return any(regular.kind(folder / name) == regular.FOLDER for name in FOLDERS)


def top_of(path: Path) -> Path:
    """The top of the tree around an absolute path: the nearest folder named `results`, else the highest
    one that holds manifests or a scale's folders, else the path's own folder."""
    start = path if regular.kind(path) == regular.FOLDER else path.parent
    candidates = [start, *start.parents][:DEPTH]
    for folder in candidates:
        if folder.name == "results":
            return folder
    fitting = [folder for folder in candidates if is_scale(folder) or holds_manifests(folder)]
    return fitting[-1] if fitting else start


def holds_manifests(folder: Path) -> bool:
    """Whether a manifest lies in the folder itself."""
    try:
        with os.scandir(folder) as entries:
            return any(entry.name.endswith(manifest.SUFFIX) for entry in entries)
    except OSError:
        return False
