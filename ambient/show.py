"""Print a table for people: ours beside the paper's, and where to look next."""

from __future__ import annotations

import argparse
from pathlib import Path

COLUMNS = {"id": "id", "dataset": "target", "method": "method", "corruption": "corruption",
           "sigma_px": "blur px", "quality": "quality", "length_px": "motion px", "added": "added",
           "sigma_min_mean": "mean sigma_min", "sigma_max_mean": "mean sigma_max",
           "value": "ours", "value_std": "+- seeds",
           "value_best": "best", "paper_value": "paper FID",
           "paper_sigma_min_mean": "paper sigma_min", "paper_sigma_max_mean": "paper sigma_max"}


def main(arguments: list[str]) -> int:
    """`python -m ambient show TABLE.csv`."""
    import pandas as pd

    parser = argparse.ArgumentParser(prog="python -m ambient show", description=main.__doc__)
    parser.add_argument("table", type=Path)
    path = parser.parse_args(arguments).table
    if not path.is_file():
        parser.error(f"{path}: no such file; make it with: snakemake --cores 2 {path}")
    table = pd.read_csv(path)
    metric, samples = table["metric"].iloc[0], table["num_samples"].iloc[0]
    shown = table[[c for c in COLUMNS if c in table]].rename(columns=COLUMNS)
    text = shown.to_string(index=False, float_format=lambda value: f"{value:.2f}", na_rep="")
    print(f"\n{path}: ours is {metric} on {samples} samples a seed (lower is better); the paper's is "
          f"FID on its own data.\nOnly the order of the methods compares.\n\n{text}\n")
    folder = path.parent
    print("Next:")
    for name, what in ((f"{path.stem}.png", "the figure"),
                       (f"{path.stem}-curves.png", "distance against images seen"),
                       (f"{path.stem}-classifiers.png", "noise classifiers and sigma_min"),
                       (f"{path.stem}-grid.png", "samples of each method"),
                       (f"{path.stem}-audit.html", "where each number comes from"),
                       ("report.html", "all of it in one page")):
        if (folder / name).exists():
            print(f"  {folder / name}  {what}")
    print(f"  python -m ambient audit {path}  every number back to the raw images")
    return 0
