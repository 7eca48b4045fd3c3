"""A scale run to its end in this process: each job of its graph, in order, by the stages themselves.

The configuration is that of the repository with one scale of its own, laid over `tests/scales/tiny.yaml`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from ambient.commands import job
from ambient.settings import Experiments
from ambient.settings.graph import Graph
from tests.clones import configuration

ROOT = Path(__file__).parents[1]
SCALE = "away"
OVERLAY = """extends: tiny
studies:
  controlled:
    annotation: {protocol: shared_noise, num_sigmas: 6, num_trials: 2, sigma_low: 0.1, sigma_high: 1.0,
                 epsilon: 0.02, never_crosses: exclude}
    training: {snapshots: [256]}
    sampling: {num_samples: 40}
datasets: {digits: {max_images: 150, resolution: 8}}
tables: {table2a: {title: Digits, rows: [only-clean, ambient-blur-0.6]}}
"""


def configure(folder: Path, overlay: str = OVERLAY) -> None:
    """Put the configuration of the scale `away` into a folder."""
    configuration(folder / "config")
    shutil.copy(ROOT / "tests/scales/tiny.yaml", folder / "config/scales")
    (folder / "config/scales" / f"{SCALE}.yaml").write_text(overlay)


def make(folder: Path, *targets: str, scale: str = SCALE) -> None:
    """Make some files of a scale below the working folder, with what lies behind them and is not there."""
    graph = Graph(Experiments(folder / "config", scale))
    for one in graph.behind(targets):
        job.run(graph, one)
