"""The experiments as data: strict YAML, one overlay per scale, and the specification of every job."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ambient.config.experiments import Experiments
from ambient.config.layers import load
from ambient.config.stages import Run
from ambient.strict import SpecError, nearest, require

__all__ = ["NAME", "Experiments", "Run", "check_main", "load", "scales"]

NAME = r"[a-z0-9][a-z0-9.-]*"


def check_main(config: Mapping) -> None:
    """Check the workflow's own settings (config/config.yaml, or --config on the command line)."""
    known = ("scale", "threads")
    for key in config:
        if key not in known:
            raise SpecError(f"config/config.yaml: unknown key {key!r}{nearest(key, known)}")
    require(config.get("scale") in scales("config"), "config/config.yaml: scale", config.get("scale"),
            ", ".join(scales("config")))
    threads = config.get("threads")
    require(isinstance(threads, int) and threads > 0, "config/config.yaml: threads", threads, ">= 1")


def scales(folder: Path | str) -> list[str]:
    """The scales that exist: one file each."""
    return sorted(path.stem for path in (Path(folder) / "scales").glob("*.yaml"))
