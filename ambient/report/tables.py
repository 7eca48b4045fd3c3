"""A table of the paper: its rows and columns, from raw scores and annotation summaries."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ambient.data.usage import usage
from ambient.diffusion.eligible import Admission
from ambient.report import least
from ambient.report.captions import tolerance
from ambient.report.preferences import columns
from ambient.specs import DetectorSpec, RowSpec, TableSpec
from ambient.specs.strict import build
from ambient.storage.files import read_arrays, read_json


def summarise(scores: Sequence[Sequence[Mapping]]) -> dict:
    """Numbers of one row; `scores` holds, for each training seed, its list of {nimg, seed, value}.

    value: the last snapshot, mean over sampling seeds, then over training seeds. value_std: standard
    deviation over sampling seeds, pooled over training seeds; value_min: the smallest single score of
    the last snapshot; value_best: the mean over sampling seeds at the best snapshot (the paper reports
    its best), mean over training seeds; best_num_seeds: how many sampling seeds that is of, where they are
    fewer than the last one's; training_std: standard deviation of `value` over training seeds;
    training_values: these values, with slashes between.

    The best snapshot has the least mean over those sampling seeds that every snapshot has.
    """
    last, best, best_nimg, best_seeds, spread, final_scores = [], [], [], [], [], []
    for run in scores:
        values: dict[int, dict[int, float]] = {}
        for score in run:
            values.setdefault(score["nimg"], {})[score["seed"]] = score["value"]
        final = list(values[max(values)].values())
        final_scores += final
        last.append(np.mean(final))
        spread.append(np.var(final, ddof=1) if len(final) > 1 else np.nan)
        shared = set.intersection(*map(set, values.values()))
        best_nimg.append(min(values, key=lambda nimg: np.mean([values[nimg][seed] for seed in shared])))
        best.append(np.mean(list(values[best_nimg[-1]].values())))
        best_seeds.append(len(values[best_nimg[-1]]))
    seeds = len(final_scores) // len(scores)
    return {
        "value": np.mean(last), "value_std": np.sqrt(np.mean(spread)),
        "value_min": min(final_scores), "value_best": np.mean(best),
        "best_nimg": best_nimg[0] if len(set(best_nimg)) == 1 else "/".join(map(str, best_nimg)),
        "best_num_seeds": "/".join(map(str, best_seeds)) if set(best_seeds) != {seeds} else None,
        "nimg": max(s["nimg"] for s in scores[0]),
        "num_seeds": seeds, "num_training_seeds": len(scores),
        "training_std": np.std(last, ddof=1) if len(last) > 1 else np.nan,
        "training_values": "/".join(f"{value:.6g}" for value in last) if len(last) > 1 else None}


# Columns that are there only where they say something.
USED = ("images_clean", "images_added", "images_used", "levels_used", "draws_used")
DRAWN = ("ema_std", "guidance", "guide", "nfe")
SIZES = ("parameters_1e6", "nfe")  # what a row takes, beside what the paper prints of it
OPTIONAL = ("id", "dataset", "sigma_min_lag", "sigma_max_mean", "crop_tolerance", "paper_sigma_max_mean",
            "reference_dataset", "weights_sha256", "protocol", "paper_protocol", "training_id",
            "training_values", "best_num_seeds", *DRAWN, *USED, *SIZES, *(f"paper_{name}" for name in SIZES))
PROTOCOL = ("num_samples", "reference_images", "resize", "weights_sha256")  # of a score, beside its metric
SAID = ("reference_best", "against")  # of a score, where its distance is to the best images alone


OF_SWEEPS = tuple(f"_{kind}{end}" for kind in least.KINDS for end in least.ENDS)  # ends of columns' names


def protocol(spec: RowSpec, metrics: Sequence[dict]) -> dict:
    """What scores of a run were measured by: their metric, and `PROTOCOL`.

    Raises `ValueError` where training seeds differ in it, or where a score is named after Inception but was
    not measured as that name says.
    """
    found = [{key: m.get(key) for key in ("metric", *PROTOCOL)} | {key: m[key] for key in SAID if key in m}
             for m in metrics]
    for other in found[1:]:
        if other != found[0]:
            raise ValueError(f"run {spec.run}: training seeds were scored differently: {found[0]}, {other}")
    metric, recorded = found[0]["metric"], {key: found[0][key] for key in ("resize", "weights_sha256")}
    if recorded != (DetectorSpec.protocol_of(metric) or recorded):
        raise ValueError(f"run {spec.run}: its score is called {metric}, but is recorded with resize "
                         f"{recorded['resize']} and weights {recorded['weights_sha256']}: evaluate it again")
    return found[0]


def other_metric(spec: RowSpec, metric: str, metrics: Sequence[dict]) -> dict:
    """The columns of a metric that stands beside the table's own. Raises `ValueError` for another one."""
    found = protocol(spec, metrics)
    if found.pop("metric") != metric:
        raise ValueError(f"run {spec.run}: {metrics[0]['metric']} where {metric} is expected")
    numbers = summarise([m["scores"] for m in metrics])
    several = {f"{metric}_training_std": numbers["training_std"]} if len(metrics) > 1 else {}
    return {metric: numbers["value"], f"{metric}_std": numbers["value_std"], **several,
            f"{metric}_min": numbers["value_min"], f"{metric}_best": numbers["value_best"],
            **{f"{metric}_{k}": v for k, v in found.items()}}


def used(spec: RowSpec, annotation: dict, usable: Path | None) -> dict:
    """How many images are clean, added, and added and usable at some level; and at how many levels.

    `annotation` is the summary; `usable`, the annotations themselves, gives `levels_used` and `draws_used`
    (`ambient.data.usage`).
    """
    if "samples" not in annotation:
        return {}
    clean = annotation["samples"] - annotation["corrupted"]
    found = {"images_clean": clean, "images_added": annotation["corrupted"],
             "images_used": annotation["used"]}
    if usable is None or spec.noise is None or not annotation["corrupted"]:
        return found
    arrays = read_arrays(usable, ("sigma_min", "sigma_max"))
    share = usage(arrays["sigma_min"], arrays["sigma_max"], clean, spec.noise,
                  Admission(spec.buffer, spec.margin))
    return found | {"levels_used": share.levels, "draws_used": share.draws}


def row(spec: RowSpec, metrics: Sequence[dict], annotation: dict, usable: Path | None = None) -> dict:
    """One row as column -> value. Raises `ValueError` where training seeds differ in protocol."""
    found, bounds = protocol(spec, metrics), annotation.get("crop_tolerance")
    numbers = summarise([m["scores"] for m in metrics])
    return {
        "id": spec.id, "dataset": spec.dataset,
        "method": spec.method, "corruption": spec.corruption or "none", **spec.told_apart_by,
        "parameters_1e6": spec.parameters_1e6,
        **{name: getattr(spec.drawn, name, None) for name in DRAWN},
        **{f"paper_{name}": spec.paper.get(name) for name in SIZES},
        "metric": found.pop("metric"), "value": numbers.pop("value"), "value_std": numbers.pop("value_std"),
        "value_min": numbers.pop("value_min"), "value_best": numbers.pop("value_best"),
        **found, "reference_dataset": spec.reference, **numbers,
        "protocol": spec.protocol, **dict.fromkeys(USED), **used(spec, annotation, usable),
        "sigma_min_mean": annotation.get("sigma_min_mean"),
        "sigma_min_lag": annotation.get("sigma_min_lag"),
        "sigma_max_mean": annotation.get("sigma_max_mean"),
        "crop_tolerance": bounds and tolerance(bounds["absolute"], bounds["relative"]),
        "paper_metric": "fid", "paper_value": spec.paper.get("fid"),
        "paper_sigma_min_mean": spec.paper.get("sigma_min"),
        "paper_sigma_max_mean": spec.paper.get("sigma_max"), "paper_protocol": spec.paper_protocol,
        "training_id": spec.trained and spec.training_id, "run_id": spec.run_id}


def printed(spec: RowSpec, columns: Collection[str]) -> dict[str, float]:
    """The published numbers of those columns that are called as the paper's are: `paper_<column>`."""
    return {f"paper_{name}": value for name, value in spec.paper.items() if name in columns}


def check_numbers(spec: TableSpec, metrics: Sequence[Path], annotations: Sequence[Path],
                  usable: Sequence[Path], others: Sequence[Path], scored: Sequence[Path],
                  sweeps: Sequence[Path]) -> None:
    """Raise `ValueError` unless there are as many files as `frame` asks for."""
    seeds, count = len(spec.training_seeds), len(spec.rows)
    if len(metrics) != seeds * count or len(annotations) != count or len(usable) not in (0, count):
        raise ValueError(f"table {spec.name}: {len(metrics)} score files, {len(annotations)} annotation "
                         f"summaries and {len(usable)} annotations for {count} rows x {seeds} training seeds")
    if len(others) != len(spec.beside) * len(metrics):
        raise ValueError(f"table {spec.name}: {len(others)} score files for {len(spec.beside)} other metrics "
                         f"x {count} rows x {seeds} training seeds")
    if len(scored) != len(spec.scorers) * len(metrics):
        raise ValueError(f"table {spec.name}: {len(scored)} files of samples' scores for {len(spec.scorers)} "
                         f"scorers x {count} rows x {seeds} training seeds")
    if len(sweeps) != len(spec.sweeps):
        raise ValueError(f"table {spec.name}: {len(sweeps)} files of sweeps for {len(spec.sweeps)} sweeps")


def frame(spec: TableSpec, metrics: Sequence[Path], annotations: Sequence[Path],
          usable: Sequence[Path] = (), others: Sequence[Path] = (),
          scored: Sequence[Path] = (), sweeps: Sequence[Path] = ()) -> pd.DataFrame:
    """The table. `metrics`: one file for each row and training seed; `annotations` (summaries): one a row.

    `usable`, the annotations themselves: one a row, or none at all. `others`: for each metric of
    `spec.beside` as many as `metrics`, and `scored` for each of `spec.scorers`. `sweeps`: the table of each
    of `spec.sweeps`. Raises `ValueError` for any other number of files.
    """
    check_numbers(spec, metrics, annotations, usable, others, scored, sweeps)
    seeds, points = len(spec.training_seeds), least.read(sweeps) if sweeps else None

    def of_row(files: Sequence[Path], i: int) -> Sequence[Path]:
        return files[i * seeds:(i + 1) * seeds]

    def scores(files: Sequence[Path], i: int) -> list[dict]:
        return [read_json(path) for path in of_row(files, i)]

    rows = []
    for i, one in enumerate(spec.rows):
        rows.append(row(one, scores(metrics, i), read_json(annotations[i]), usable[i] if usable else None))
        for k, metric in enumerate(spec.beside):
            rows[-1] |= other_metric(one, metric, scores(others[k * len(metrics):], i))
        of_scorers: dict = {}
        for k, scorer in enumerate(spec.scorers):
            own = scored[k * len(metrics):]
            of_scorers |= columns(scorer, of_row(own, i), of_row(own, 0))
            of_scorers |= {f"{scorer}_{key}": name for key, name in spec.asked_of(k).items()}
        rows[-1] |= of_scorers
        if points is not None:  # a published distance is then one of the sweeps
            rows[-1] |= least.columns(one, (rows[-1]["metric"], *spec.beside), points)
        rows[-1] |= printed(one, rows[-1] if points is None else of_scorers)
    return arranged(pd.DataFrame(rows), spec)


def arranged(table: pd.DataFrame, spec: TableSpec) -> pd.DataFrame:
    """A table without optional columns that say nothing, and with what its rows are called first."""
    keys = dict.fromkeys(key for one in spec.rows for key in one.told_apart_by)
    empty = [name for name in table if table[name].isna().all()]
    table = table.drop(columns=[name for name in empty if name in OPTIONAL or name.endswith(OF_SWEEPS)])
    first = list(dict.fromkeys(name for name in ("id", "dataset", "method", "corruption", *keys)
                               if name in table))
    return table[[*first, *(column for column in table.columns if column not in first)]]


def rebuild(spec: Mapping, inputs: Mapping[str, Sequence[Path]]) -> str:
    """The CSV text of a table from the plain specification and inputs that its manifest holds."""
    found = build(TableSpec, spec, "table")
    given = [inputs.get(role, ()) for role in ("usable", "beside", "scored", "sweeps")]
    table = frame(found, inputs["metrics"], inputs["annotations"], *given)
    return table.to_csv(index=False, lineterminator="\n", float_format="%.6g")
