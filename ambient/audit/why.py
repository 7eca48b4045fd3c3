"""One number's story: from the cell of a table down to the pixels, and the tree below any artefact."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ambient.audit.words import Result, level_word
from ambient.storage import regular
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


def sources_of_row(result: Result, row: int) -> list[Path]:
    """The artefacts behind one row: its scores, one file a training seed, and its annotation summary."""
    inputs, seeds = result.manifest["inputs"], len(result.manifest["spec"]["training_seeds"])
    entries = inputs["metrics"][row * seeds:(row + 1) * seeds] + inputs["annotations"][row:row + 1]
    places = {(result.key.parent / e["path"]).as_posix(): e for e in entries}
    return [path for path in result.parents if path.as_posix() in places]


def story(audit: Audit, table: Result, asked: str) -> list[str]:
    """One row of a table in words: its cells, the scores behind them, and the chain of its files."""
    if table.manifest.get("stage") != "ambient.tables":
        raise ValueError(f"{table.path}: not a table; --row is for tables")
    rows = rows_of(table.key)
    row = pick(rows, asked, table.path)
    try:
        below = sources_of_row(table, row)
    except (LookupError, TypeError) as error:
        raise ValueError(f"{table.path}: its manifest names no files for row {row + 1} ({error})") from None
    cells = ", ".join(f"{key} {value}" for key, value in rows[row].items() if value)
    lines = [f"{table.path}, row {row + 1} of {len(rows)}  [{described(table)}]", f"  {cells}"]
    if table.reason:
        lines.append(f"  what keeps it from level {table.level + 1}: {table.reason}")
    for path in below:
        lines += scores(audit.results[path])
    return [printable(line) for line in lines] + ["", *tree(audit, below)]


def scores(result: Result) -> list[str]:
    """The scores of a metrics file, a line a snapshot."""
    if result.manifest.get("stage") != "ambient.evaluate" or result.level < 1:
        return []
    by: dict[int, list[str]] = {}
    try:
        found = json.loads(regular.read(result.key))
        for score in found["scores"]:
            by.setdefault(score["nimg"], []).append(f"{score['value']:.6g} (sampling seed {score['seed']})")
        return [f"  after {nimg:,} training images, {found['metric']} of {found['num_samples']} samples: "
                + ", ".join(values) for nimg, values in sorted(by.items())]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        return [f"  {result.path}: no scores in it ({first_line(error)})"]
