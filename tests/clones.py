"""Copies of the repository's files, with the scales of `tests/scales` beside its own."""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[1]


def clone(folder: Path) -> Path:
    """Copy what the workflow needs into `folder`, without what is particular to this machine."""
    ignored = shutil.ignore_patterns("__pycache__", "local.yaml", "site.yaml")
    for name in ("ambient", "workflow", "config"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("Snakefile", "environment.yml"):
        shutil.copy(ROOT / name, folder)
    (folder / "slurm").symlink_to("workflow/profiles/slurm")
    shutil.copytree(ROOT / "tests/scales", folder / "config/scales", dirs_exist_ok=True)
    return folder
