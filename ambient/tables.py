"""Stage: a table of the paper as tidy CSV, from raw scores and annotation summaries.

The table is a function of its specification and of the files it names, so the audit can build it
again and compare it cell by cell.
"""

from __future__ import annotations

from ambient import stage
from ambient.spec import TableSpec

if __name__ == "__main__":  # a wrong command line is refused before anything heavy is loaded
    job = stage.begin(__doc__, TableSpec, inputs=("metrics", "annotations"), outputs=("out",),
                      many=("metrics", "annotations"))

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ambient.files import atomic, read_json
from ambient.spec import RowSpec
from ambient.strict import build, plain


def summarise(scores: Sequence[Sequence[Mapping]]) -> dict:
    """Numbers of one row; `scores` holds, for each training seed, its list of {nimg, seed, value}.

    value: the last snapshot, mean over sampling seeds, then over training seeds. value_std: standard
    deviation over sampling seeds, pooled over training seeds; value_min: the smallest single score of
    the last snapshot; value_best: the mean over sampling seeds at the best snapshot (the paper reports
    its best), mean over training seeds; training_std: standard deviation of `value` over training seeds.
    """
    last, best, best_nimg, spread = [], [], [], []
    for run in scores:
        frame = pd.DataFrame(run)
        means = frame.groupby("nimg")["value"].mean()
        final = frame[frame["nimg"] == means.index.max()]["value"]
        last.append(final.mean())
        spread.append(final.var(ddof=1) if len(final) > 1 else np.nan)
        best.append(means.min())
        best_nimg.append(int(means.idxmin()))
    final_scores = [s["value"] for run in scores for s in run
                    if s["nimg"] == max(t["nimg"] for t in run)]
    return {
        "value": np.mean(last), "value_std": np.sqrt(np.mean(spread)),
        "value_min": min(final_scores), "value_best": np.mean(best),
        "best_nimg": best_nimg[0] if len(set(best_nimg)) == 1 else "/".join(map(str, best_nimg)),
        "nimg": max(s["nimg"] for s in scores[0]),
        "num_seeds": len(final_scores) // len(scores), "num_training_seeds": len(scores),
        "training_std": np.std(last, ddof=1) if len(last) > 1 else np.nan}


# Columns that are there only where they say something.
OPTIONAL = ("id", "dataset", "sigma_min_lag", "sigma_max_mean", "crop_tolerance", "paper_sigma_max_mean")


def tolerance(found: Mapping | None) -> str | None:
    """What bounded crop(sigma), `absolute and relative`; None where nothing was measured."""
    if found is None:
        return None
    relative = found["relative"]
    return f"{found['absolute']:g}" + ("" if relative is None else f" and {relative:.0%}")


def row(spec: RowSpec, metrics: Sequence[dict], annotation: dict) -> dict:
    """One row as column -> value. Raises `ValueError` where training seeds differ in protocol."""
    protocols = {(m["metric"], m["num_samples"], m["reference_images"]) for m in metrics}
    if len(protocols) != 1:
        raise ValueError(f"run {spec.run}: training seeds were scored differently: {protocols}")
    metric, num_samples, _ = protocols.pop()
    numbers = summarise([m["scores"] for m in metrics])
    return {
        "id": spec.id, "dataset": spec.dataset,
        "method": spec.method, "corruption": spec.corruption or "none", **spec.parameters, **spec.settings,
        "metric": metric, "value": numbers.pop("value"), "value_std": numbers.pop("value_std"),
        "value_min": numbers.pop("value_min"), "value_best": numbers.pop("value_best"),
        "num_samples": num_samples, **numbers,
        "sigma_min_mean": annotation.get("sigma_min_mean"),
        "sigma_min_lag": annotation.get("sigma_min_lag"),
        "sigma_max_mean": annotation.get("sigma_max_mean"),
        "crop_tolerance": tolerance(annotation.get("crop_tolerance")),
        "paper_metric": "fid", "paper_value": spec.paper.get("fid"),
        "paper_sigma_min_mean": spec.paper.get("sigma_min"),
        "paper_sigma_max_mean": spec.paper.get("sigma_max"), "run_id": spec.run_id}


def frame(spec: TableSpec, metrics: Sequence[Path], annotations: Sequence[Path]) -> pd.DataFrame:
    """The table. `metrics`: one file for each row and training seed; `annotations`: one a row."""
    seeds = len(spec.training_seeds)
    if len(metrics) != seeds * len(spec.rows) or len(annotations) != len(spec.rows):
        raise ValueError(f"table {spec.name}: {len(metrics)} score files and {len(annotations)} "
                         f"annotation summaries for {len(spec.rows)} rows x {seeds} training seeds")
    rows = [row(one, [read_json(path) for path in metrics[i * seeds:(i + 1) * seeds]],
                read_json(annotations[i])) for i, one in enumerate(spec.rows)]
    keys = list(dict.fromkeys(key for one in spec.rows for key in (*one.parameters, *one.settings)))
    table = pd.DataFrame(rows)
    table = table.drop(columns=[name for name in OPTIONAL if table[name].isna().all()])
    first = list(dict.fromkeys(name for name in ("id", "dataset", "method", "corruption", *keys)
                               if name in table))
    return table[[*first, *(column for column in table.columns if column not in first)]]


def rebuild(spec: Mapping, inputs: Mapping[str, Sequence[Path]]) -> str:
    """The CSV text of a table from the plain specification and inputs that its manifest holds."""
    found = build(TableSpec, spec, "table")
    return frame(found, inputs["metrics"], inputs["annotations"]).to_csv(
        index=False, lineterminator="\n", float_format="%.6g")


def main(spec: TableSpec, record, *, metrics: list[Path], annotations: list[Path],
         out: Path) -> None:
    """`out` gets the table."""
    text = rebuild(plain(spec), {"metrics": metrics, "annotations": annotations})
    with atomic(out) as temporary:
        temporary.write_text(text)


if __name__ == "__main__":
    job.run(main)
