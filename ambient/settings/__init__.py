"""The experiments as data: strict YAML, one overlay per scale, and the specification of every job."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ambient.settings.experiments import Experiments
from ambient.settings.files import NAME
from ambient.settings.layers import load
from ambient.settings.resolve import Run
from ambient.specs.strict import refuse_unknown, require

__all__ = ["NAME", "Experiments", "Run", "check_main", "home", "load", "scales"]


def home() -> Path:
    """The folder of the YAML files: `config` where the command runs, or else the one beside this package."""
    here = Path("config")
    return here if (here / "config.yaml").is_file() else Path(__file__).parents[2] / "config"


def check_main(config: Mapping) -> None:
    """Check the workflow's own settings (config/config.yaml, or --config on the command line)."""
    refuse_unknown(config, ("scale", "threads"), "config/config.yaml")
    require(config.get("scale") in scales(home()), "config/config.yaml: scale", config.get("scale"),
            ", ".join(scales(home())))
    threads = config.get("threads")
    require(isinstance(threads, int) and threads > 0, "config/config.yaml: threads", threads, ">= 1")


def scales(folder: Path | str) -> list[str]:
    """The scales that exist: one file each. Raises `SpecError` for a name that can't be part of a path."""
    found = sorted(path.stem for path in (Path(folder) / "scales").glob("*.yaml"))
    for name in found:
        require(re.fullmatch(NAME, name) is not None, f"{Path(folder) / 'scales'}: the name of a scale", name,
                "small letters, digits, dots and dashes: rename its file")
    return found
