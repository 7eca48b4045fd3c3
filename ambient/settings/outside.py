"""Images from outside that are scored under a table's protocol: one file of `config/outside/` each."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ambient.settings.entry_types import OutsideEntry
from ambient.settings.files import NAME
from ambient.settings.layers import load
from ambient.specs import ComparisonSpec, OutsideSpec
from ambient.specs.strict import SpecError, build, nearest, require

if TYPE_CHECKING:
    from ambient.settings.experiments import Experiments


def place(folder: Path, name: str) -> Path:
    """Where an entry is written down."""
    return folder / "outside" / f"{name}.yaml"


class Outside:
    """What stands from outside beside the tables of a scale, by name."""

    def __init__(self, experiments: Experiments) -> None:
        """Raises `SpecError` for an entry of the scale that means no table's protocol."""
        self.experiments, self.entries = experiments, {}
        for path in sorted(place(experiments.folder, "*").parent.glob("*.yaml")):
            require(re.fullmatch(NAME, path.stem) is not None, f"{path}: the name", path.stem,
                    "small letters, digits, dots and dashes: rename the file")
            entry = build(OutsideEntry, load(path), str(path))
            if entry.scale == experiments.scale:
                self.run_of(entry, str(path))
                self.entries[path.stem] = entry

    def run_of(self, entry: OutsideEntry, asked_by: str) -> str:
        """The first run of the table whose distance is to the same target: its protocol is meant."""
        tables = self.experiments.tables
        if entry.table not in tables:
            raise SpecError(f"{asked_by}: table: no such name: {entry.table!r}{nearest(entry.table, tables)}")
        runs: dict[str, str] = {}
        for row in tables[entry.table].rows:
            runs.setdefault(self.experiments.study(self.experiments.run(row.run).study).dataset, row.run)
        target = entry.target or next(iter(runs))
        require(target in runs and (entry.target or len(runs) == 1), f"{asked_by}: target", entry.target,
                f"one of {', '.join(runs)}: the dataset that the distance is to")
        return runs[target]

    def entry(self, name: str) -> OutsideEntry:
        """An entry by name. Raises `SpecError` for one that is not there."""
        if name not in self.entries:
            raise SpecError(f"{place(self.experiments.folder, name)}: nothing of the scale "
                            f"{self.experiments.scale} stands there{nearest(name, self.entries)}")
        return self.entries[name]

    def run(self, name: str) -> str:
        """The run whose protocol an entry is measured by."""
        return self.run_of(self.entry(name), str(place(self.experiments.folder, name)))

    def of_table(self, table: str) -> list[str]:
        """The names of what stands beside a table."""
        return [name for name, entry in self.entries.items() if entry.table == table]

    def spec(self, name: str) -> OutsideSpec:
        """The specification of the `outside` stage."""
        entry, run = self.entry(name), self.run(name)
        return self.protocol(run, name=name, label=entry.label, sha256=entry.sha256)

    def protocol(self, run: str, **own: str) -> OutsideSpec:
        """The specification for images that no file speaks of yet, by a run's protocol."""
        experiments = self.experiments
        evaluation = experiments.evaluation(run)
        target = experiments.study(experiments.run(run).study).dataset
        data = experiments.dataset(target)
        return OutsideSpec(metric=evaluation.metric, detector=evaluation.detector,
                           reference=target, num_samples=experiments.sampling(run).num_samples,
                           resolution=data.resolution, channels=data.channels, **own)

    def comparison(self, table: str) -> ComparisonSpec:
        """The specification of the `comparison` stage. Raises `SpecError` where nothing stands beside it."""
        if not self.of_table(table):
            folder = place(self.experiments.folder, "*").parent
            raise SpecError(f"{folder}: nothing stands beside the table {table} of the scale "
                            f"{self.experiments.scale}: add it by `ambient score`")
        return ComparisonSpec(self.experiments.tables[table])
