"""The audit as one self-contained page: each cell of each table links to its chain, level and samples."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ambient.audit import why
from ambient.audit.words import Result, first_line, level_word, printable

if TYPE_CHECKING:
    from ambient.audit.chain import Audit

SHOWN, SCALE = 16, 3  # samples shown of a row, and their magnification
HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Audit</title>
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="generator" content="ambient audit">
<style>body{font:14px/1.4 sans-serif;max-width:75em;margin:2em auto;padding:0 1em}
table{border-collapse:collapse;font-size:12px;display:block;overflow-x:auto}
td,th{border:1px solid #ccc;padding:.2em .4em;text-align:right}
td a{color:inherit;text-decoration-color:#999}
pre{background:#f6f6f6;padding:.6em;overflow-x:auto;font-size:12px}
.bad{color:#b00020}.good{color:#1b7a3d}img{image-rendering:pixelated}:target{background:#fff7d6}</style>
"""
LEVELS = ("0 present, 1 intact, 2 closed to raw data, 3 derived again from what it was made from, "
          "4 its job run again with the same result")


def page(audit: Audit, roots: Mapping[Path, Mapping]) -> str:
    """The page of an audited tree. Everything that a file could have put into it is escaped."""
    results = list(audit.results.values())
    problems = [problem for result in results for problem in result.problems]
    parts = [HEAD, "<h1>Audit</h1>", f"<p>Levels: {LEVELS}.</p>"]
    state = f'<p class="bad">{len(problems)} problems</p>' if problems else \
        '<p class="good">Every link of every result holds.</p>'
    parts += [state, *(f'<p class="bad">{clean(problem)}</p>' for problem in problems)]
    parts += [f"<p>Root of {clean(path)}: <code>{root['sha256']}</code> over {root['manifests']} manifests. "
              "Unsigned and uncommitted, it does not prove that nobody rewrote artefacts and manifests "
              "together.</p>" for path, root in roots.items()]
    for number, result in enumerate(r for r in results if r.stage == "tables"):
        try:
            parts += table(audit, result, f"t{number}")
        except Exception as error:  # whatever somebody wrote into one table must not hide the others
            parts.append(f'<p class="bad">{clean(result.path)} is not shown: {clean(first_line(error))}</p>')
    return "\n".join(parts) + "</html>\n"


def clean(text: object) -> str:
    """Text as HTML."""
    return html.escape(printable(text))


def table(audit: Audit, result: Result, name: str) -> list[str]:
    """A table whose cells are links, and a section for each row."""
    parts = [f"<h2>{clean(result.path)}, {level_word(result)}</h2>"]
    if result.level < 1:
        return [*parts, '<p class="bad">Not shown: it is not what its job wrote.</p>']
    rows = why.rows_of(result.key)
    parts.append("<table><tr>" + "".join(f"<th>{clean(key)}</th>" for key in rows[0]) + "</tr>")
    parts += ["<tr>" + "".join(f'<td><a href="#{name}-{i}">{clean(value)}</a></td>'
                               for value in row.values()) + "</tr>" for i, row in enumerate(rows)]
    parts.append("</table>")
    for i, row in enumerate(rows):
        title = clean(row.get("run_id") or row.get("method"))
        lines = "\n".join(html.escape(line) for line in why.story(audit, result, str(i + 1)))
        parts.append(f'<section id="{name}-{i}"><h3>{title}</h3>{pictures(audit, result, i)}'
                     f"<pre>{lines}</pre></section>")
    return parts


def pictures(audit: Audit, result: Result, row: int) -> str:
    """The first samples of a row's last snapshot, as the samples file holds them; `` where it is pruned."""
    found = [audit.results[path] for scores in why.sources_of_row(result, row)
             for path in audit.results[scores].parents if audit.results[path].stage == "sample"]
    if not found or found[0].level < 1:
        return "<p>No samples here: they were pruned, or are not intact.</p>"
    try:
        import numpy as np
        from PIL import Image
    except ImportError as error:
        return f"<p>No samples here: showing them needs {error.name}, which is not installed.</p>"
    from ambient.files import read_arrays

    arrays = read_arrays(found[0].key)
    images = arrays[max(arrays, key=int)][0, :SHOWN].transpose(0, 2, 3, 1)
    sheet = Image.fromarray(np.concatenate(list(images), axis=1).squeeze())
    file = io.BytesIO()
    sheet.resize((sheet.width * SCALE, sheet.height * SCALE), Image.Resampling.NEAREST).save(file, "png")
    return (f'<p><img alt="samples" src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'
            f" {clean(found[0].path)}, {level_word(found[0])}</p>")
