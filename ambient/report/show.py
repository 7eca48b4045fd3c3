"""Print a table for people: ours beside the paper's, what the spreads are, and where to look next."""

from __future__ import annotations

import argparse
from pathlib import Path

from ambient.report.captions import joined, uncertainty

COLUMNS = {"id": "id", "dataset": "target", "method": "method", "corruption": "corruption",
           "sigma_px": "blur px", "quality": "quality", "length_px": "motion px",
           "added": "added", "images_clean": "clean", "images_used": "others used",
           "sigma_min_mean": "mean sigma_min", "sigma_min_lag": "its lag",
           "sigma_max_mean": "mean sigma_max",
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

    if not path.is_file():
        raise ValueError(f"{path}: no such file; make it with: snakemake --cores 2 {path}")
    try:
        table = pd.read_csv(path)
    except (ValueError, OSError) as error:  # of pandas and of text that is not UTF-8 too
        raise ValueError(f"{path}: not a table: {' '.join(str(error).split())}") from None
    missing = [name for name in NEEDED if name not in table]
    if missing:
        raise ValueError(f"{path}: not a table of results: no column {', '.join(missing)}")
    numbers = table[[*NUMBERS]]
    whole = numbers.notna().all(axis=None) and len(numbers.select_dtypes("number").columns) == len(NUMBERS)
    if table.empty or not whole:
        raise ValueError(f"{path}: damaged: a row without its value or its number of samples and seeds")
    return table


def main(arguments: list[str]) -> int:
    """`python -m ambient show TABLE.csv`."""
    parser = argparse.ArgumentParser(prog="python -m ambient show", description=main.__doc__)
    parser.add_argument("table", type=Path)
    path = parser.parse_args(arguments).table
    table = read(path)
    shown = table[[c for c in COLUMNS if c in table and table[c].notna().any()]].rename(columns=COLUMNS)
    text = shown.to_string(index=False, float_format=lambda value: f"{value:.2f}", na_rep="")
    samples = joined(map(int, table["num_samples"]))
    spread = uncertainty(int(table["num_training_seeds"].max()), int(table["num_seeds"].max()), bars=False)
    metric = joined(table["metric"])
    print(f"\n{path}: ours is {metric} on {samples} samples a seed (lower is better);\n{spread}.\n"
          f"The paper's is FID on its own data: only the order of the methods compares.\n\n{text}\n")
    print("Next:")
    for name, what in ((name.format(path.stem), what) for name, what in NEXT):
        if (path.parent / name).exists():
            print(f"  {path.parent / name}  {what}")
    print(f"  python -m ambient audit {path}  every number back to the raw images")
    return 0
