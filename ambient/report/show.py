"""Print a table for people: ours beside the paper's, what the spreads are, and where to look next."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path

from ambient.report.captions import MAIN, OF_SCORER, joined, uncertainty
from ambient.storage import regular

COLUMNS = {"id": "id", "dataset": "target", "method": "method", "corruption": "corruption",
           "sigma_px": "blur px", "quality": "quality", "length_px": "motion px",
           "added": "added", "images_clean": "clean", "images_used": "others used",
           "sigma_min_mean": "mean sigma_min", "sigma_min_lag": "its lag",
           "sigma_max_mean": "mean sigma_max",
           "parameters_1e6": "parameters 1e6", "paper_parameters_1e6": "paper's", "nfe": "NFE",
           "paper_nfe": "paper's NFE",
           "value": "ours", "training_std": "+- training", "value_std": "+- sampling",
           "value_best": "best", "paper_value": "paper FID",
           "paper_sigma_min_mean": "paper sigma_min", "paper_sigma_max_mean": "paper sigma_max"}
NUMBERS = ("value", "num_samples", "num_seeds", "num_training_seeds")
NEEDED = ("method", "metric", *NUMBERS)
NEXT = (("{}.png", "the figure"), ("{}-curves.png", "distance against images seen"),
        ("{}-classifiers.png", "noise classifiers and sigma_min"), ("{}-grid.png", "samples of each method"),
        ("{}-audit.html", "where each number comes from"),
        ("report.html", "all of it in one page, to be read or sent"))


def read(path: Path):  # noqa: ANN201, pandas is loaded by those commands only that need it
    """The table as a data frame. Raises `ValueError`, one line, for a file that is none of this package's."""
    import pandas as pd

    if not path.exists():
        raise ValueError(f"{path}: no such file; make it with: snakemake --cores 2 {path}")
    if not path.is_file():
        raise ValueError(f"{path}: {regular.kind(path)}, allowed: the CSV file of a table")
    try:
        table = pd.read_csv(path)
    except (ValueError, OSError) as error:  # of pandas and of text that is not UTF-8 too
        raise ValueError(f"{path}: not a table: {' '.join(str(error).split())}") from None
    missing = [name for name in NEEDED if name not in table]
    if missing:
        raise ValueError(f"{path}: not a table of results: no column {', '.join(missing)}")
    numbers = table[[*NUMBERS]]
    whole = numbers.notna().all(axis=None) and len(numbers.select_dtypes("number").columns) == len(NUMBERS)
    if table.empty:
        raise ValueError(f"{path}: a table without rows")
    if not whole:
        raise ValueError(f"{path}: damaged: a row without its value or its number of samples and seeds")
    return table


def text_of(table, titles: Mapping[str, str], decimals: int = 2) -> str:  # noqa: ANN001, see `read`
    """Those columns of a data frame that are in `titles` and hold anything, by their titles."""
    shown = table[[name for name in titles if name in table and table[name].notna().any()]]
    return shown.rename(columns=titles).to_string(index=False, na_rep="",
                                                  float_format=lambda one: f"{one:z.{decimals}f}")


def by_scorers(columns: Iterable[str]) -> dict[str, str]:
    """Column -> title of the numbers by a table's scorers. Of these higher is better."""
    known = {name.removesuffix(f"_{key}") for name in columns for key in MAIN
             if name.endswith(f"_{key}") and name not in COLUMNS}
    titles = {f"{scorer}_{key}": f"{scorer.replace('paper_', 'the paper: ')} {title}"
              for scorer in sorted(known) for key, title in OF_SCORER}
    return {name: titles[name] for name in columns if name in titles}


def by_detectors(columns: Iterable[str]) -> dict[str, str]:
    """Column -> title of the distances by other detectors than the table's own, with the paper's numbers."""
    names = list(columns)
    known = [name for name in names if {f"{name}_best", f"{name}_num_samples"} <= {*names}]
    return {f"{before}{name}{end}": f"{title} {name}" if title else name for name in known
            for before, end, title in (("", "", ""), ("", "_training_std", "+- training"),
                                       ("", "_std", "+- sampling"), ("paper_", "", "the paper:"))}


def compared(table) -> str:  # noqa: ANN001, see `read`
    """How ours compares with the paper's, a line; empty for a table without a number of the paper's."""
    if "paper_value" not in table or table["paper_value"].isna().all():
        return ""
    if set(table["metric"]) == {"fid"}:
        return "The paper's is FID, too: values compare where data and number of samples are the paper's.\n"
    return "The paper's is FID on its own data: only the order of the methods compares.\n"


def main(arguments: list[str]) -> int:
    """`python -m ambient show TABLE.csv`: print a table, ours beside the paper's."""
    parser = argparse.ArgumentParser(prog="python -m ambient show", description=main.__doc__)
    parser.add_argument("table", type=Path, help="the CSV file of a table, results/demo/table2a.csv say")
    path = parser.parse_args(arguments).table
    table = read(path)
    text = text_of(table, COLUMNS)
    for title, found, decimals in (
            ("By other detectors (lower is better)", by_detectors(table.columns), 2),
            ("By its scorers (higher is better)", by_scorers(table.columns), 3)):
        if found:
            text += f"\n\n{title}:\n\n{text_of(table, {'method': 'method', **found}, decimals)}"
    samples = joined(map(int, table["num_samples"]))
    spread = uncertainty(int(table["num_training_seeds"].max()), int(table["num_seeds"].max()), bars=False)
    metric = joined(table["metric"])
    print(f"\n{path}: ours is {metric} on {samples} samples a seed (lower is better);\n{spread}.\n"
          f"{compared(table)}\n{text}\n")
    print("Next:")
    for name, what in ((name.format(path.stem), what) for name, what in NEXT):
        if (path.parent / name).exists():
            print(f"  {path.parent / name}  {what}")
    print(f"  python -m ambient audit {path}  every number back to the raw images")
    return 0
