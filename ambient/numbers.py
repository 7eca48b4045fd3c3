"""The numbers of tables, each beside the paper's: the rows of a summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from ambient.spec import RowSpec, SummarySpec
from ambient.strict import build

QUANTITIES = {"value": "paper_value", "sigma_min_mean": "paper_sigma_min_mean",
              "sigma_max_mean": "paper_sigma_max_mean"}


def key_of(row: RowSpec) -> str:
    """What tells a row from the others of its table: `key=value` of its parameters and settings."""
    return "; ".join(f"{key}={value}" for key, value in (row.parameters | row.settings).items())


def rows_of(name: str, specs: tuple[RowSpec, ...], table: pd.DataFrame) -> list[dict]:
    """A row for each number that a table holds or the paper prints. Raises `ValueError` if they differ.

    `value` is called by its metric; the paper's is an FID of its best snapshot.
    """
    if list(table["run_id"]) != [row.run_id for row in specs]:
        raise ValueError(f"table {name}: its rows are not those of the configuration: make it again")
    found = []
    for spec, (_, row) in zip(specs, table.iterrows(), strict=True):
        for ours, papers in QUANTITIES.items():
            value, paper = row.get(ours), row.get(papers)
            if pd.isna(value) and pd.isna(paper):
                continue
            is_value = ours == "value"
            found.append({
                "table": name, "id": spec.id, "dataset": spec.dataset, "method": spec.method,
                "corruption": row["corruption"], "parameters": key_of(spec),
                "quantity": row["metric"] if is_value else ours, "ours": value,
                "ours_std": row["value_std"] if is_value else None,
                "ours_best": row["value_best"] if is_value else None,
                "num_samples": row["num_samples"] if is_value else None,
                "num_seeds": row["num_seeds"] if is_value else None,
                "num_training_seeds": row["num_training_seeds"], "nimg": row["nimg"],
                "paper_quantity": "fid" if is_value else ours, "paper": paper,
                "note": spec.note if is_value else None, "run_id": spec.run_id})
    return found


def rebuild(spec: Mapping, tables: Sequence[Path], levels: Sequence[int]) -> str:
    """The CSV text of a summary: `tables` in the order of the plain specification, `levels` one a table.

    `provenance_level` is what `python -m ambient audit` said of the table then: 1 intact, 2 closed to raw
    data, 3 derived again. Raises `ValueError` where the files are not those of the specification.
    """
    found = build(SummarySpec, spec, "summary")
    if not len(tables) == len(levels) == len(found.tables):
        raise ValueError(f"{len(tables)} table files for {len(found.tables)} tables")
    rows = [row | {"provenance_level": level}
            for one, path, level in zip(found.tables, tables, levels, strict=True)
            for row in rows_of(one.name, one.rows, pd.read_csv(path))]
    return pd.DataFrame(rows).to_csv(index=False, lineterminator="\n", float_format="%.6g")
