"""One number's story: from the cell of a table down to the pixels, and the tree below any artefact."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ambient.audit.words import Result, level_word
from ambient.provenance.merkle import located
from ambient.storage import regular
from ambient.storage.files import read_arrays
from ambient.storage.text import first_line, printable

if TYPE_CHECKING:
    from ambient.audit.chain import Audit

# What of a stage's facts and specification a reader wants to see, in words.
FACTS = {"images": "{:,} images", "samples": "{:,} samples", "nfe": "{} network calls each",
         "guide_nfe": "{} of the guide",
         "images_seen": "{:,} training images", "parameters": "{:,} parameters",
         "corrupted": "{:,} corrupted", "clean": "{:,} clean", "accuracy": "accuracy {:.3f}", "codec": "{}"}


def tree(audit: Audit, tops: Sequence[Path]) -> list[str]:
    """The chains below artefacts, indented; what was shown already is not unfolded again."""
    return [line for _, lines in unfolded(audit, tops) for line in lines]


def unfolded(audit: Audit, tops: Sequence[Path]) -> Iterator[tuple[Path | None, list[str]]]:
    """The lines of each artefact of the chains, with its path; without where it was shown already."""
    seen = set()
    waiting = [(path, 0) for path in reversed(tops)]
    while waiting:
        key, depth = waiting.pop()
        result, again = audit.results[key], key in seen
        seen.add(key)
        indent = "  " * depth
        head = printable(f"{indent}{result.path}  [{described(result)}]")
        if again:
            yield None, [f"{head}  (above)"]
            continue
        lines = [f"{indent}  ! {problem.word}: {problem.detail}" for problem in result.problems]
        lines += [f"{indent}  {e['file']}  [raw, sha256 {e['sha256'][:12]}…]"
                  for e in result.manifest.get("external", [])]
        yield key, [head, *map(printable, lines)]
        waiting += [(p, depth + 1) for p in reversed(result.parents) if p in audit.results]


def described(result: Result) -> str:
    """Stage, level, and the numbers that matter."""
    state = level_word(result)
    facts, spec = result.manifest.get("facts", {}), result.manifest.get("spec", {})
    words = [in_words(pattern, facts[key]) for key, pattern in FACTS.items() if key in facts]
    seed = spec.get("seed", spec.get("seeds"))
    words += [f"seed {seed}"] if isinstance(seed, int) else [f"seeds {seed}"] if seed else []
    words += [f"{result.seconds:,.1f} s"] if result.seconds is not None else []
    return ", ".join([result.stage, state, *words])


def in_words(pattern: str, value: object) -> str:
    """A fact in its pattern; as it stands where somebody wrote another kind of value into a manifest."""
    try:
        return pattern.format(value)
    except (ValueError, TypeError):
        return f"{value!r:.60}"


def rows_of(path: Path) -> list[dict]:
    """The rows of a table. Raises `ValueError` where it is none."""
    try:
        return list(csv.DictReader(regular.read(path).decode().splitlines()))
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"{path}: not a table ({error})") from None


def pick(rows: Sequence[Mapping], asked: str, path: Path) -> int:
    """The index of a row: its number from 1, its run_id or run, or a method that only one row has."""
    if asked.isdecimal() and 1 <= int(asked) <= len(rows):
        return int(asked) - 1
    found = [i for i, row in enumerate(rows)
             if asked in (row.get("run_id"), Path(row.get("run_id") or "").name, row.get("method"))]
    if len(found) != 1:
        known = ", ".join(f"{i + 1} {Path(row.get('run_id') or '').name}" for i, row in enumerate(rows))
        raise ValueError(f"{path}: --row {asked!r} fits {len(found)} rows; there are: {known}")
    return found[0]


def sources_of_row(audit: Audit, table: Result, row: int, cells: Mapping) -> tuple[list[Path], list[Path]]:
    """(the artefacts behind a row's cells, the scores of the first row that its own are compared with).

    The former are its scores by every detector and scorer, its annotations with their summary, and the
    sweeps with points of its training. They stand in the order of the table's manifest.
    """
    inputs, spec = table.manifest["inputs"], table.manifest["spec"]
    count, seeds = len(spec["rows"]), len(spec["training_seeds"])

    def of(role: str, number: int, each: int = 1) -> list[Path]:
        """The files of a role that belong to a row. Of each detector or scorer there are `each` a row."""
        return [located(table.key, entry["path"]) for place, entry in enumerate(inputs.get(role, ()))
                if place // each % count == number]

    own = {path for role in ("metrics", "beside", "scored") for path in of(role, row, seeds)}
    own |= {path for role in ("annotations", "usable") for path in of(role, row)}
    if cells.get("sweep_rule"):
        swept = [located(table.key, entry["path"]) for entry in inputs["sweeps"]]
        own |= {path for path in swept if trainings(audit.results[path]) & trainings(table, row)}
    scorers = [name for name in spec.get("scorers", ()) for _ in range(seeds)]
    compared = [path for scorer, path in zip(scorers, of("scored", 0, seeds), strict=True)
                if cells.get(f"{scorer}_win_rate")]
    return [path for path in table.parents if path in own], compared


def trainings(table: Result, row: int | None = None) -> set[str]:
    """The runs whose trainings stand behind one row of a table or sweep, or behind all."""
    rows = table.manifest["spec"]["rows"]
    return {one.get("trained") or one["run"] for one in (rows if row is None else rows[row:row + 1])}


def story(audit: Audit, table: Result, asked: str) -> list[str]:
    """One row of a table in words: its cells, the scores behind them, and the chain of its files."""
    if table.manifest.get("stage") != "ambient.tables":
        raise ValueError(f"{table.path}: not a table; --row is for tables")
    rows = rows_of(table.key)
    row = pick(rows, asked, table.path)
    try:
        below, compared = sources_of_row(audit, table, row, rows[row])
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(f"{table.path}: its manifest names no files for row {row + 1} ({error})") from None
    cells = ", ".join(f"{key} {value}" for key, value in rows[row].items() if value)
    lines = [f"{table.path}, row {row + 1} of {len(rows)}  [{described(table)}]", f"  {cells}"]
    if table.reason:
        lines.append(f"  what keeps it from level {table.level + 1}: {table.reason}")
    for path in below:
        lines += scores(audit, audit.results[path])
    for path in compared:
        lines += [f"  compared with row 1, {rows[0].get('run_id')}:{line[1:]}"
                  for line in scores(audit, audit.results[path])]
    return [printable(line) for line in lines] + ["", *tree(audit, [*below, *compared])]


def scores(audit: Audit, result: Result) -> list[str]:
    """The scores of a metrics file, a line a snapshot, or those of samples, a line. None of another file."""
    if result.stage not in ("evaluate", "sample_scores") or result.level < 1:
        return []
    try:
        return distances(result) if result.stage == "evaluate" else means(audit, result)
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        return [f"  {result.path}: no scores in it ({first_line(error)})"]


def distances(result: Result) -> list[str]:
    """The scores of a metrics file, a line a snapshot."""
    by: dict[int, list[str]] = {}
    found = json.loads(regular.read(result.key))
    for score in found["scores"]:
        by.setdefault(score["nimg"], []).append(f"{score['value']:.6g} (sampling seed {score['seed']})")
    return [f"  after {nimg:,} training images, {found['metric']} of {found['num_samples']} samples: "
            + ", ".join(values) for nimg, values in sorted(by.items())]


def means(audit: Audit, result: Result) -> list[str]:
    """The mean score of the samples of each sampling seed, in one line."""
    scorer = result.key.stem.removeprefix("scores-")
    samples = located(result.key, result.manifest["inputs"]["samples"][0]["path"])
    seeds = audit.results[samples].manifest["spec"]["seeds"]
    try:
        found = read_arrays(result.key, ("score",))["score"].reshape(len(seeds), -1)
    except ImportError as error:
        return [f"  {scorer}: showing its scores needs {error.name}, which is not installed"]
    values = [f"{mean:.6g} (sampling seed {seed})"
              for mean, seed in zip(found.mean(axis=1), seeds, strict=True)]
    return [f"  {scorer}, mean of {found.shape[1]} scores: {', '.join(values)}"]
