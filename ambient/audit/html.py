"""The audit as one self-contained page: each cell of each table links to its chain, level and samples."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ambient.audit import why
from ambient.audit.sign import SIGNATURE
from ambient.audit.words import Problem, Result, level_word
from ambient.provenance import source_code
from ambient.storage.text import first_line, printable

if TYPE_CHECKING:
    from ambient.audit.chain import Audit

SHOWN, SCALE = 16, 3  # samples shown of a row, and their magnification
HEAD = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="ambient audit">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<style>body{font:15px/1.5 system-ui,sans-serif;max-width:90rem;margin:0 auto;padding:1rem;color:#1a1a1a}
h1{font-size:1.5rem}h2{font-size:1.2rem}h3{font-size:1rem}h1,h2,h3,p{overflow-wrap:anywhere}
.wide{overflow-x:auto;border:1px solid #d8d8d8;border-radius:6px}
table{border-collapse:collapse;font-size:12px;width:100%;font-variant-numeric:tabular-nums}
td,th{border-bottom:1px solid #d8d8d8;padding:.3em .5em;text-align:right;vertical-align:bottom}
td a{color:inherit;text-decoration-color:#999;white-space:nowrap}
td:first-child,th:first-child{text-align:left;position:sticky;left:0;background:#fff}
pre{background:#f6f6f6;padding:.6em;overflow-x:auto;font-size:12px}.soft{color:#666}
.bad{color:#b00020}.good{color:#1b7a3d}img{image-rendering:pixelated;max-width:100%;height:auto}
:target{background:#fff7d6}</style>
"""
# Of a table's columns, those that a reader looks for first; keys come before them, all others after.
KEYS = ("id", "dataset", "method", "corruption")
FIRST = ("value", "training_std", "value_std", "paper_value", "metric", "num_samples", "sigma_min_mean",
         "paper_sigma_min_mean", "sigma_max_mean", "paper_sigma_max_mean")
LEVELS = ("0 present, 1 intact, 2 closed to raw data, 3 derived again from what it was made from, "
          "4 its job run again with the same result")


@dataclass(frozen=True)
class Checked:
    """What was checked beside the files themselves, where that was asked for.

    reruns: lines about jobs that were run again. signature: lines about a signature that was verified.
    unsigned: each file that is not as it was signed, or why no signature could be verified.
    signs: whether the folder is signed as soon as the page is written.
    """

    reruns: Sequence[str] = ()
    signature: Sequence[str] = ()
    unsigned: Sequence[Problem] = ()
    signs: bool = False


def page(audit: Audit, roots: Mapping[Path, Mapping], checked: Checked = Checked()) -> str:
    """The page of an audited tree. Everything that a file could have put into it is escaped."""
    results = list(audit.results.values())
    problems = [*(problem for result in results for problem in result.problems), *checked.unsigned]
    tables = [result.key.name for result in results if result.stage == "tables"]
    title = clean("Audit of " + (", ".join(tables) if 0 < len(tables) < 4 else audit.tree.top.name))
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    parts = [HEAD, f"<title>{title}</title></head><body>", f"<h1>{title}</h1>",
             f'<p class="soft">{made}, by commit {clean(commit())}. Levels: {LEVELS}.</p>']
    count = f"{len(problems)} problem{'s' * (len(problems) != 1)}"
    state = f'<p class="bad">{count}</p>' if problems else \
        '<p class="good">Every link of every result holds.</p>'
    listed = "".join(f'<p class="bad">{clean(problem)}</p>' for problem in problems)
    is_open = " open" if len(problems) <= SHOWN else ""
    parts.append(state)
    if problems:
        parts.append(f"<details{is_open}><summary>Each problem</summary>{listed}</details>")
    if audit.noted:
        parts.append(f"<p>{clean(audit.noted.words())}</p>")
    verdict = vouched(checked)
    parts += [f"<p>Root of {clean(path)}: <code>{root['sha256']}</code> over {root['manifests']} manifests. "
              f"{verdict}</p>" for path, root in roots.items()]
    if checked.reruns:
        parts.append(f"<h2>Jobs that were run again</h2><pre>{lines_of(checked.reruns)}</pre>")
    for number, result in enumerate(r for r in results if r.stage == "tables"):
        try:
            parts += table(audit, result, f"t{number}")
        except Exception as error:  # whatever somebody wrote into one table must not hide the others
            parts.append(f'<p class="bad">{clean(result.path)} is not shown: {clean(first_line(error))}</p>')
    return "\n".join(parts) + "</body></html>\n"


def vouched(checked: Checked) -> str:
    """What a signature says of a root, where one was verified; where it is about to be made, how to do so."""
    if checked.signature:
        return f"The {clean('; '.join(checked.signature))}."
    if checked.unsigned:
        return "Its signature could not be verified: see the problem above."
    if checked.signs:
        return (f"It was signed as {SIGNATURE} right after this page was written: <code>python -m ambient "
                "audit FOLDER --verify PUBLIC_KEY</code> checks that.")
    return ("Unsigned and uncommitted, it does not prove that nobody rewrote artefacts and manifests "
            "together.")


def lines_of(lines: Sequence[str]) -> str:
    """Lines of text as HTML."""
    return "\n".join(map(clean, lines))


def commit() -> str:
    """The repository's commit as this audit runs, and whether files differ from it."""
    found = source_code.commit()
    return (found.get("commit") or "unknown")[:12] + (", edited" if found.get("dirty") else "")


def columns_of(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """The columns of a table that hold anything: what a row is, what was measured and published, the rest."""
    filled = [key for key in rows[0] if any(row[key] for row in rows)]
    place = {key: k for k, key in enumerate((*KEYS, *FIRST))}
    before = filled[:filled.index("metric")] if "metric" in filled else []  # parameters of the corruption too
    rank = {key: len(KEYS) - 0.5 for key in before} | place
    return sorted(filled, key=lambda key: rank.get(key, len(place)))


def clean(text: object) -> str:
    """Text as HTML."""
    return html.escape(printable(text))


def table(audit: Audit, result: Result, name: str) -> list[str]:
    """A table whose cells are links, and a section for each row."""
    parts = [f"<h2>{clean(result.path)}, {level_word(result)}</h2>"]
    if result.level < 1:
        return [*parts, '<p class="bad">Not shown: it is not what its job wrote.</p>']
    rows = why.rows_of(result.key)
    columns = columns_of(rows) if rows else []
    heads = "".join(f"<th>{clean(key).replace('_', '_<wbr>')}</th>" for key in columns)
    parts.append(f'<div class="wide"><table><tr>{heads}</tr>')
    parts += ["<tr>" + "".join(f'<td><a href="#{name}-{i}">{clean(row[key])}</a></td>'
                               for key in columns) + "</tr>" for i, row in enumerate(rows)]
    parts.append("</table></div>")
    for i, row in enumerate(rows):
        title = clean(row.get("run_id") or row.get("method"))
        lines = "\n".join(html.escape(line) for line in why.story(audit, result, str(i + 1)))
        parts.append(f'<section id="{name}-{i}"><h3>{title}</h3>{pictures(audit, result, i, row)}'
                     f"<pre>{lines}</pre></section>")
    return parts


def pictures(audit: Audit, result: Result, row: int, cells: Mapping[str, str]) -> str:
    """The first samples of a row's last snapshot, as the samples file holds them; `` where it is pruned."""
    found = [audit.results[path] for scores in why.sources_of_row(audit, result, row, cells)[0]
             for path in audit.results[scores].parents if audit.results[path].stage == "sample"]
    if not found or found[0].level < 1:
        return "<p>No samples here: they were pruned, or are not intact.</p>"
    try:
        import numpy as np
        from PIL import Image
    except ImportError as error:
        return f"<p>No samples here: showing them needs {error.name}, which is not installed.</p>"
    from ambient.storage.arrays import latest, part

    images = part(latest(found[0].key), 0)[:SHOWN].transpose(0, 2, 3, 1)
    sheet = Image.fromarray(np.concatenate(list(images), axis=1).squeeze())
    file = io.BytesIO()
    sheet.resize((sheet.width * SCALE, sheet.height * SCALE), Image.Resampling.NEAREST).save(file, "png")
    return (f'<p><img alt="samples" src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'
            f" {clean(found[0].path)}, {level_word(found[0])}</p>")
