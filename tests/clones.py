"""Copies of the repository's files, with scales of `tests/scales` beside its own."""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[1]


ALWAYS = {"demo", "small", "paper"}  # those that the Snakefile names


def clone(folder: Path, *scales: str) -> Path:
    """Copy what the workflow needs into `folder`, without what is particular to this machine.

    It has all scales or, where some are named, these and those of `ALWAYS`: every start of the workflow
    checks each scale that it has.
    """
    ignored = shutil.ignore_patterns("__pycache__", "local.yaml", "site.yaml")
    for name in ("ambient", "workflow", "config"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("Snakefile", "environment.yml"):
        shutil.copy(ROOT / name, folder)
    (folder / "slurm").symlink_to("workflow/profiles/slurm")
    shutil.copytree(ROOT / "tests/scales", folder / "config/scales", dirs_exist_ok=True)
    for path in (folder / "config/scales").iterdir():
        if scales and path.stem not in ALWAYS.union(scales):
            path.unlink()
    return folder
