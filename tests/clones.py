"""Copies of the repository's files, with scales of `tests/scales` beside its own."""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[1]


SHIPPED = ("demo", "demo3", "small", "paper", "paper-bfloat16", "paper-day")  # others are users'
ALWAYS = {"demo", "small", "paper"}  # those that the Snakefile names, and the default one


def configuration(folder: Path) -> Path:
    """Copy the YAML files into `folder`, without this machine's paths and without anybody's own scales."""
    shutil.copytree(ROOT / "config", folder, ignore=shutil.ignore_patterns("local.yaml", "site.yaml"))
    for path in (folder / "scales").iterdir():
        if path.stem not in SHIPPED:
            path.unlink()
    return folder


def clone(folder: Path, *scales: str) -> Path:
    """Copy what the workflow needs into `folder`, without what is particular to this machine.

    It has all shipped scales or, where some are named, these and those of `ALWAYS`: every start of the
    workflow reads the files of each scale that it has.
    """
    for name in ("ambient", "workflow"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    configuration(folder / "config")
    for name in ("Snakefile", "environment.yml"):
        shutil.copy(ROOT / name, folder)
    (folder / "slurm").symlink_to("workflow/profiles/slurm")
    shutil.copytree(ROOT / "tests/scales", folder / "config/scales", dirs_exist_ok=True)
    for path in (folder / "config/scales").iterdir():
        if scales and path.stem not in ALWAYS.union(scales):
            path.unlink()
    return folder
