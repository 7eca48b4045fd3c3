"""The numbers of tables and of the running text, each beside the paper's: the rows of a summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from ambient.annotation.statistics import crossing_of
from ambient.provenance import manifest
from ambient.provenance.pace import rate_of
from ambient.report.least import KINDS
from ambient.specs import RowSpec, SummarySpec, TableSpec, TextSpec
from ambient.specs.report import COUNTED, TIMES
from ambient.specs.strict import build
from ambient.storage.files import read_json

TEXT = "running text"  # in the place of a table's name
QUANTITIES = {"value": "paper_value", "sigma_min_mean": "paper_sigma_min_mean",
              "sigma_max_mean": "paper_sigma_max_mean", "parameters_1e6": "paper_parameters_1e6",
              "nfe": "paper_nfe"}


def key_of(row: RowSpec) -> str:
    """What tells a row from the others of its table: `key=value` of its parameters and settings."""
    return "; ".join(f"{key}={value}" for key, value in row.told_apart_by.items())


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
                "note": spec.note if is_value else None, "run_id": spec.run_id,
                "protocol": spec.protocol, "paper_protocol": spec.paper_protocol})
    return found


def beside(name: str, spec: TableSpec, table: pd.DataFrame) -> list[dict]:
    """A row for each number of a table by another detector, with the paper's where it prints one."""
    return [{"table": name, "id": one.id, "dataset": one.dataset, "method": one.method,
             "corruption": row["corruption"], "parameters": key_of(one), "quantity": metric,
             "ours": row[metric], "ours_std": row[f"{metric}_std"], "ours_best": row[f"{metric}_best"],
             "num_samples": row[f"{metric}_num_samples"], "num_seeds": row["num_seeds"],
             "num_training_seeds": row["num_training_seeds"], "nimg": row["nimg"], "run_id": one.run_id,
             "protocol": one.protocol, "paper_protocol": one.paper_protocol} | papers(row, metric)
            for one, (_, row) in zip(spec.rows, table.iterrows(), strict=True) for metric in spec.beside]


def papers(row: pd.Series, quantity: str) -> dict:
    """The paper's number of a table's column; nothing where it prints none."""
    paper = row.get(f"paper_{quantity}")
    return {} if paper is None or pd.isna(paper) else {"paper_quantity": quantity, "paper": paper}


def scored(name: str, spec: TableSpec, table: pd.DataFrame) -> list[dict]:
    """A row for each score of a table's samples of which the paper prints a number."""
    columns = [column for column in table if any(column.startswith(f"{scorer}_") for scorer in spec.scorers)]
    return [{"table": name, "id": one.id, "dataset": one.dataset, "method": one.method,
             "corruption": row["corruption"], "parameters": key_of(one), "quantity": column,
             "ours": row[column], "ours_std": row.get(f"{column}_se"), "num_samples": row["num_samples"],
             "num_training_seeds": row["num_training_seeds"], "nimg": row["nimg"], "run_id": one.run_id,
             "protocol": one.protocol, "paper_protocol": one.paper_protocol} | papers(row, column)
            for one, (_, row) in zip(spec.rows, table.iterrows(), strict=True) for column in columns
            if papers(row, column)]


def swept(name: str, spec: TableSpec, table: pd.DataFrame) -> list[dict]:
    """A row for the least distance of each training in its sweeps, of each metric and kind of sampling."""
    kinds = [f"{metric}_{kind}" for metric in (*table["metric"].unique(), *spec.beside) for kind in KINDS]
    return [{"table": name, "id": one.id, "dataset": one.dataset, "method": one.method,
             "corruption": row["corruption"], "parameters": key_of(one), "quantity": quantity,
             "ours": row[quantity], "num_samples": row["num_samples"],
             "num_training_seeds": row["num_training_seeds"], "nimg": row["nimg"],
             "paper_quantity": quantity, "paper": row.get(f"paper_{quantity}"), "note": row["sweep_rule"],
             "run_id": one.run_id, "protocol": one.protocol, "paper_protocol": one.paper_protocol}
            for one, (_, row) in zip(spec.rows, table.iterrows(), strict=True) for quantity in kinds
            if pd.notna(row.get(quantity)) or pd.notna(row.get(f"paper_{quantity}"))]


def time_of(spec: TextSpec, logs: Sequence[Path]) -> tuple[float | None, str]:
    """(mean over the trainings of `logs`, what they ran on): as the last attempt of each went.

    An attempt that found the work done says nothing of its time, and is left out.
    """
    found = [manifest.read(manifest.path_for(path)) for path in logs]
    timed = [(one["facts"]["images_seen"], rate) for one in found if (rate := rate_of(one)) > 0]
    each = [1000 / rate if spec.of == "seconds_per_1000" else images / rate / 3600 for images, rate in timed]
    machine = found[0]["environment"]
    devices = machine["gpu"] if "gpu" in machine else [machine.get("cpu", machine["machine"])]
    return (sum(each) / len(each) if each else None,
            f"ours: mean of {len(each)} trainings, {len(devices)} x {devices[0]}")


def text_row(spec: TextSpec, rows: Mapping[str, Mapping], files: Sequence[Path]) -> dict:
    """A number of the running text. `rows` are table rows by run, `files` those of `files_of`."""
    note, row = spec.note, rows[spec.runs[0]]
    if spec.of in TIMES:
        ours, where = time_of(spec, files)
        note = f"{note}; {where}" if note else where
    elif spec.of in COUNTED:
        ours = spec.counted
    elif spec.of == "crossing":
        ours = crossing_of(pd.DataFrame(read_json(files[0])["levels"]), spec.tau)
    else:
        ours = row["value"] - (rows[spec.runs[1]]["value"] if spec.of == "gain" else 0)
    metric = spec.of in ("value", "gain")
    return {"table": TEXT, "id": spec.id, "method": None if spec.of in TIMES else row["method"],
            "quantity": row["metric"] if metric else spec.of, "ours": ours,
            "paper_quantity": "fid" if metric else spec.of, "paper": spec.paper, "note": note,
            "protocol": spec.protocol, "paper_protocol": spec.paper_protocol}


def rebuild(spec: Mapping, tables: Sequence[Path], levels: Sequence[int], logs: Sequence[Path] = (),
            reports: Sequence[Path] = (), text_levels: Sequence[int] = ()) -> str:
    """The CSV text of a summary: `tables` in the order of the plain specification, `levels` one a table.

    `logs` and `reports` are those of `files_of`, `text_levels` one a number of the running text.
    `provenance_level` is what `python -m ambient audit` said of the table then: 1 intact, 2 closed to raw
    data, 3 derived again. Raises `ValueError` where the files are not those of the specification.
    """
    found = build(SummarySpec, spec, "summary")
    if not len(tables) == len(levels) == len(found.tables) or len(text_levels) != len(found.texts):
        raise ValueError(f"{len(tables)} table files for {len(found.tables)} tables, {len(text_levels)} "
                         f"levels for {len(found.texts)} numbers of the running text")
    rows, by_run = [], {}
    for one, path, level in zip(found.tables, tables, levels, strict=True):
        table = pd.read_csv(path)
        made = rows_of(one.name, one.rows, table) + beside(one.name, one, table)
        made += scored(one.name, one, table)
        made += swept(one.name, one, table) if one.sweeps else []
        rows += [row | {"provenance_level": level} for row in made]
        by_run |= {row.run: values for row, (_, values) in zip(one.rows, table.iterrows(), strict=True)}
    for one, level, files in zip(found.texts, text_levels, files_of(found, logs, reports), strict=True):
        rows.append(text_row(one, by_run, files) | {"provenance_level": level})
    return pd.DataFrame(rows).to_csv(index=False, lineterminator="\n", float_format="%.6g")


def files_of(spec: SummarySpec, logs: Sequence[Path], reports: Sequence[Path]) -> list[list[Path]]:
    """The files of each number of the running text. Raises `ValueError` where there are more or fewer.

    `logs`: those of each training seed of each run of a time; `reports`: of the classifier of each crossing.
    """
    seeds = {row.run: len(table.training_seeds) for table in spec.tables for row in table.rows}
    logs, reports, found = list(logs), list(reports), []
    for one in spec.texts:
        source = logs if one.of in TIMES else reports
        count = sum(seeds[run] for run in one.runs) if one.of in TIMES else int(one.of == "crossing")
        found.append(source[:count])
        del source[:count]
        if len(found[-1]) != count:
            raise ValueError(f"{one.id}: {len(found[-1])} files for {count}")
    if logs or reports:
        raise ValueError(f"{len(logs)} logs and {len(reports)} reports too many")
    return found
