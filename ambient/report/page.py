"""The report: one page with the tables of a scale beside the paper's values, what they say, and figures."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import jinja2
import pandas as pd

from ambient.provenance import manifest
from ambient.report import figures
from ambient.report.captions import (
    OF_SCORER,
    THEORY,
    distinct,
    label_of,
    of_table,
    plural,
    published,
    published_title,
    seeds_of,
    targets,
)
from ambient.report.findings import findings, seen, told_apart
from ambient.report.least import KINDS
from ambient.report.template import PAGE
from ambient.specs import ReportSpec, TableSpec
from ambient.specs.report import PICTURES
from ambient.storage.files import read_json

OUTSIDE = ("The table's rows, with scores by its protocol of images made elsewhere (hollow marks). "
           "Nobody here saw how those were made.")
# Columns of a table that hold numbers: column, heading, decimals.
NUMBERS = (("value", "ours", 2), ("training_std", "± training seeds", 2),
           ("value_std", "± sampling seeds", 2), ("paper_value", "paper", 2),
           ("value_best", "ours, best snapshot", 2),
           ("sigma_min_mean", "mean sigma_min", 2), ("sigma_min_lag", "of that, lag", 2),
           ("paper_sigma_min_mean", "paper's", 2),
           ("sigma_max_mean", "mean sigma_max", 3), ("paper_sigma_max_mean", "paper's", 3),
           ("parameters_1e6", "parameters, millions", 2), ("paper_parameters_1e6", "paper's", 0),
           ("nfe", "network evaluations", 0), ("paper_nfe", "paper's", 0),
           ("images_clean", "clean images", 0), ("images_added", "others", 0),
           ("images_used", "of them used", 0))

# What is said under a table that holds a column.
NOTES = {
    "num_training_seeds": "Training seeds repeat the training alone, with the same mixture, classifier and "
                          "annotations.",
    "sigma_min_lag": "Lag: the fraction by which an annotation's smoothing, which looks back only, moves the "
                     "mean sigma_min up.",
    "images_used": "Images used are those that may be trained on at some noise level: where none of the "
                   "others is, the row is Only Clean by another name.",
    "parameters_1e6": "Parameters are those of the network that is sampled, without its guide and without "
                      "the log-variance that training alone uses.",
    "nfe": "Network evaluations a sample: with guidance those of both networks, where published tables count "
           "the main one's alone.",
    "sweep_rule": "The least of a sweep is the least of several noisy distances, and so lower than one that "
                  "is chosen beforehand. The published distances of EDM2 are chosen so.",
    "protocol": "A strict classifier is trained on the run's own mixture, a leaky one on clean versions "
                "of corrupted images too, as the paper's.",
}


@dataclass(frozen=True)
class Chains:
    """Where what a page shows comes from.

    of: for each file shown its anchor among the lines, and its level of the audit in words. lines: an anchor
    or None, and text, for each file behind what is shown.
    """

    of: Mapping[Path, tuple[str, str]] = field(default_factory=dict)
    lines: Sequence[tuple[str | None, str]] = ()


def cell(value: object, decimals: int) -> str:
    """A number or a name as text; an empty cell where there is none."""
    if isinstance(value, str):
        return value
    return "" if pd.isna(value) else f"{float(value):z,.{decimals}f}"


def protocol(row: pd.Series) -> str:
    """How a row was measured."""
    seeds = " and ".join(plural(count, f"{kind} seed") for count, kind in
                         zip(seeds_of(row), ("training", "sampling"), strict=True))
    samples, seen = int(row["num_samples"]), int(row["nimg"])
    resized = f" (resizing: {row['resize']})" if row.get("resize", "none") != "none" else ""
    ours, papers = (row.get(name) for name in ("protocol", "paper_protocol"))
    classifier = f"; classifier: {ours}" if isinstance(ours, str) else ""
    other = f"; the paper's: {papers}" if isinstance(papers, str) and papers != ours else ""
    measured = f"{row['metric']}{resized} of {samples:,} samples"
    return f"{measured}, {seeds}, {seen:,} images seen{classifier}{other}"


def table_of(spec: TableSpec, table: pd.DataFrame) -> dict:
    """A table's heading and rows as text, columns without any value left out."""
    beside = [(name, name, 2) for name in spec.beside]
    beside += [(f"{name}_{key}", f"{name}: {words}", 3) for name in spec.scorers for key, words in OF_SCORER]
    beside += [(f"{name}_{kind}", f"{name}, {kind}, least of the sweep", 2) for kind in KINDS
               for name in (table["metric"][0], *spec.beside) if spec.sweeps]
    beside = [column for name, title, decimals in beside
              for column in ((name, title, decimals), (f"paper_{name}", f"{title}, the paper's", decimals))]
    shown = [(name, title, decimals) for name, title, decimals in (*NUMBERS[:3], *beside, *NUMBERS[3:])
             if name in table and table[name].notna().any()]
    best = table["value"].idxmin()
    rows = [{"label": label_of(one, spec.rows), "best": i == best, "note": one.note,
             "cells": [cell(row[name], decimals) for name, _, decimals in shown], "protocol": protocol(row)}
            for i, (one, (_, row)) in enumerate(zip(spec.rows, table.iterrows(), strict=True))]
    notes = [note for name, note in NOTES.items() if name in table and table[name].notna().any()]
    return {"columns": [title for _, title, _ in shown], "rows": rows, "notes": notes}


def landmarks_of(labels: Sequence[str], paths: Sequence[Path], folder: Path) -> list[dict]:
    """What known images score, as text: for each corruption its label, its file (from the page's `folder`)
    and its rows."""
    found = []
    for label, path in zip(labels, paths, strict=True):
        rows = [{"images": row["images"], "cells": [row["metric"], cell(row["value"], 2),
                 cell(row["value_std"], 2), cell(row["num_images"], 0), cell(row["reference_images"], 0)]}
                for _, row in pd.read_csv(path).iterrows()]
        found.append({"label": label, "rows": rows, "csv": os.path.relpath(path, folder), "path": path})
    return found


def images_read(paths: Sequence[Path]) -> list[dict]:
    """What each prepared dataset was made of, in words: its manifest says it."""
    found = []
    for path in paths:
        facts = manifest.read(manifest.path_for(path))["facts"]
        done = {key: [f"{count:,} {what}" for what, count in facts[key].items()]
                for key in ("converted", "left_out")}
        found.append({"name": path.stem, "path": path, "images": facts["images"],
                      "files": facts["raw_images"], **done})
    return found


def caption(kind: str) -> str:
    """What a figure of a kind shows, in a reader's words."""
    return THEORY if kind == "theory" else figures.KINDS[kind].Spec.CAPTION


def picture(path: Path, title: str, caption: str) -> dict:
    """A PNG as it goes into the page."""
    return {"name": path.stem, "path": path, "title": title, "caption": caption,
            "pdf": path.with_suffix(".pdf").name,
            "data": base64.b64encode(path.read_bytes()).decode()}


def section(spec: TableSpec, path: Path, pictures: list[Path], landmarks: list[Path],
            classifiers: list[Path], compared: list[Path], level: int) -> dict:
    """A table, what it says, its figures, what known images score, and how others' images compare."""
    table = pd.read_csv(path)
    titles = ("Distances", "Samples", "Learning curves", "Noise classifiers")
    captions, reports = of_table(spec, table), [read_json(one) for one in classifiers]
    known = [pd.read_csv(one) for one in landmarks]
    told = dict(zip(map(told_apart, spec.told_apart, reports), classifiers, strict=True))
    told |= dict(zip(map(seen, spec.landmarks, known), landmarks, strict=True))
    return {"name": spec.name, "title": spec.title or spec.name, "targets": targets(spec.rows),
            "paper": published(spec.rows) and published_title(spec.rows), "level": level,
            "findings": [{"text": text, "path": told.get(text, path)}
                         for text in findings(spec, table, level, reports, known)],
            "metrics": " / ".join(distinct(table["metric"])), "table": table_of(spec, table),
            "csv": path.name, "audit": f"{spec.name}-audit.html",
            "landmarks": landmarks_of(spec.landmarks, landmarks, path.parent),
            "pictures": [*(picture(p, title, captions[suffix])
                           for p, title, suffix in zip(pictures, titles, PICTURES, strict=True)),
                         *(picture(p, "With rows from outside", OUTSIDE) for p in compared)]}


def origin(paths: list[Path]) -> dict:
    """When the tables were made, and by which commits: what their manifests say."""
    found = [manifest.read(manifest.path_for(path)) for path in paths]
    codes = [one["code"] for one in found]
    commits = distinct(f"commit {code['commit'][:12]}" + (", edited" if code.get("dirty") else "")
                       if "commit" in code else "a copy without git" for code in codes)
    return {"ended": max(m["execution"]["ended"] for m in found)[:16].replace("T", " ") + " UTC",
            "commits": "; ".join(commits)}


def page(spec: ReportSpec, tables: list[Path], pictures: list[Path], levels: list[int],
         landmarks: Sequence[Path] = (), photos: Sequence[Path] = (), classifiers: Sequence[Path] = (),
         compared: Sequence[Path] = (), chains: Chains = Chains()) -> str:
    """The HTML. `levels` are the audit's of the tables.

    `pictures` holds four PNGs a table, in the order of `PICTURES`, then those of no table. `landmarks` holds
    a file for each corruption that a table's specification names in its own `landmarks`, table by table.
    `photos` are the prepared datasets of the owner's images. `classifiers` holds the held-out report of each
    noise classifier that a table's specification names in `told_apart`, table by table. `compared` are the
    figures with rows from outside, of the tables that have such. `chains` tells where all of these come from.
    """
    count, known, asked = len(PICTURES), iter(landmarks), iter(classifiers)
    sections = [section(one, path, pictures[i * count:(i + 1) * count],
                        list(islice(known, len(one.landmarks))),
                        list(islice(asked, len(one.told_apart))),
                        [other for other in compared if other.stem == f"{one.name}-with-outside"], level)
                for i, (one, path, level) in enumerate(zip(spec.tables, tables, levels, strict=True))]
    others = [picture(path, one.title, caption(one.kind))
              for one, path in zip(spec.figures, pictures[len(tables) * count:], strict=True)]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
                                     lstrip_blocks=True)
    return environment.from_string(PAGE).render(scale=spec.scale, sections=sections, others=others,
                                                read=images_read(photos), chains=chains,
                                                folder=tables[0].parent.as_posix(), **origin(tables))
