"""The command lines that tests start."""

import os
import sys

from ambient.specs import strict

# What torchrun sets for the second of two ranks.
TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1",
            "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}


def stage(name, spec, *, ranks=1, **files):
    """The command line of a stage: `spec` a specification or its JSON; `files` paths, or lists, by role."""
    told = spec if isinstance(spec, str) else strict.to_json(spec)
    line = [sys.executable, "-m", "ambient", "run", *(["--ranks", str(ranks)] if ranks > 1 else []), name,
            "--spec", told]
    for role, paths in files.items():
        line += [f"--{role.replace('_', '-')}", *map(str, paths if isinstance(paths, list) else [paths])]
    return line


def environment(folder):
    """An environment in which the package is that of a copy of the repository."""
    return os.environ | {"PYTHONPATH": str(folder)}
