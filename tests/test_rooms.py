"""The rooms of the package: which may import which, and what each may be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

from ambient.provenance.source_code import BOOKKEEPING, closure

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ambient"
STANDARD = {"__future__", "collections", "dataclasses", "functools", "hashlib", "math", "typing"}


def foreign(path):
    """The top-level packages that a file imports, at any depth in it, other than this one."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.split(".")[0] for name in names} - {"ambient"}


def test_the_contracts_between_rooms_hold():
    done = subprocess.run([Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " 0 broken" in done.stdout


def rooms_imported(room):
    """The other rooms that a room's files import at any depth in them, but for the sake of types."""
    found = set()
    for path in (PACKAGE / room).rglob("*.py"):
        tree = ast.parse(path.read_text())
        typing = {id(node) for one in ast.walk(tree) if isinstance(one, ast.If)
                  and getattr(one.test, "id", "") == "TYPE_CHECKING" for node in ast.walk(one)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and id(node) not in typing:
                names = [f"ambient.{one.name}" for one in node.names] if node.module == "ambient" else \
                    [node.module]
                found |= {name.split(".")[1] for name in names if name.startswith("ambient.")}
    return {name for name in found if (PACKAGE / name).is_dir()} - {room}


def allowed_rooms():
    """Room -> the rooms that it may import, by the table of docs/layout.md."""
    table = (ROOT / "docs/layout.md").read_text().split("may import |")[1].split("\n\n")[0]
    allowed = {}
    for name, words in re.findall(r"^\| `([a-z]+)` \|.*\|([^|]*)\|$", table, re.MULTILINE):
        above, named = set(allowed), set(re.findall(r"\w+", words)) & set(allowed)
        summed = re.search(r"\ball\b|\band below\b", words)
        inherited = {room for one in re.findall(r"those of `(\w+)`", words) for room in allowed[one]}
        allowed[name] = above if summed else named | inherited
    return allowed


def test_the_rooms_import_what_their_lines_in_the_documentation_say():
    allowed = allowed_rooms()
    assert set(allowed) == {path.name for path in PACKAGE.iterdir() if path.is_dir()} - {"__pycache__"}
    assert allowed["jobs"] == {"storage", "specs", "provenance"} and allowed["storage"] == set()
    for room, may in allowed.items():
        assert rooms_imported(room) <= may, room


def test_the_mathematics_imports_torch_and_numpy_alone():
    for path in (PACKAGE / "diffusion").rglob("*.py"):
        assert foreign(path) <= STANDARD | {"torch", "numpy"}, path


def test_the_package_is_rooms_and_at_most_three_files():
    assert len(list(PACKAGE.glob("*.py"))) <= 3
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms > set(BOOKKEEPING) and len(rooms) <= 16
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 350, path


def test_jobs_speak_by_what_survives_a_closed_terminal_and_a_full_disk():
    """`ambient.jobs.stopping.say`, and no bare `print`, which would end the job."""
    for room in ("annotation", "data", "diffusion", "evaluation", "stages", "theory", "training"):
        for path in (PACKAGE / room).rglob("*.py"):
            named = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
            assert "print" not in named, path


def test_a_comprehension_has_two_fors_at_most():
    made = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    for path in PACKAGE.rglob("*.py"):
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, made)]
        assert all(len(node.generators) <= 2 for node in nodes), path


def test_what_keeps_books_is_in_no_digest():
    named = {name.split("/")[1] for name in closure("ambient.train")}
    assert named == {"data", "diffusion", "stages", "training"}


DRAWN = """
import sys
from importlib import import_module
from pathlib import Path
import numpy as np
for path in Path("ambient/report").rglob("*.py"):
    import_module(".".join(path.with_suffix("").parts))
for name in ("crops_figures", "figures", "galleries", "tables", "theory_figure"):
    import_module(f"ambient.stages.{name}")
from ambient.data.shown import shown
from ambient.report.noising import noised
assert len(shown(np.arange(9), 3, 0)) == 3
noised(np.zeros((2, 1, 4, 4), np.uint8), 0.5, 0)
assert "torch" not in sys.modules
"""


def test_figures_and_tables_are_made_without_torch():
    """What the contract excuses: random numbers by position need torch only for its own generators."""
    done = subprocess.run([sys.executable, "-c", DRAWN], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
