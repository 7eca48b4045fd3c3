"""Things added to a copy of the repository, as their next author would; and which files that touched."""

import hashlib
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[1]
ADDED = ROOT / "tests/added"  # files as their author would write them
LAST_ROW = ")\nSTAGES = "  # what follows the rows in the table of stages


def contents(folder, under=("ambient", "workflow", "config", "Snakefile")):
    """File, from the root of a copy -> digest of its bytes."""
    found = [path for name in under for path in [folder / name, *(folder / name).rglob("*")]
             if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in found}


def touched(folder, before):
    """The files of a copy that are new, changed or gone since its `contents` were those `before`."""
    after = contents(folder)
    return {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}


def insert(path, before, text):
    """Put text in front of the one place where `before` stands in a file."""
    whole = path.read_text()
    assert whole.count(before) == 1, (path, before)
    path.write_text(whole.replace(before, text + before))


def add_kind(folder, place, name):
    """Add a kind to a copy of the package: a file of `tests/added`, to the folder of its like."""
    assert not (folder / place / name).exists()
    shutil.copy(ADDED / name, folder / place)


def add_entry(folder, file, section, line):
    """Add one line to a section of a file of `config/`, as its first entry."""
    assert "\n" not in line
    path = folder / "config" / file
    heading, = (one for one in path.read_text().splitlines() if one.split("#")[0].rstrip() == f"{section}:")
    path.write_text(path.read_text().replace(f"{heading}\n", f"{heading}\n  {line}\n"))


def add_corruption(folder, name, code, label):
    """Add a corruption to a copy of the package: its function, its place in the table, and its words."""
    path = folder / "ambient/data/corruptions.py"
    insert(path, "CORRUPTIONS: dict", f"{code}\n\n")
    insert(path, ")}\nLABELS", f", {name}")
    insert(path, '    "gaussian_blur": "', f'    "{name}": "{label}",\n')


def add_stage(folder, name, row, code, specification=""):
    """Add a stage to a copy of the package: its row, with the import of a specification, and its file."""
    insert(folder / "ambient/specs/stages.py", LAST_ROW, row)
    if specification:
        insert(folder / "ambient/specs/stages.py", "\ndef prunable", f"{specification}\n\n")
    (folder / f"ambient/stages/{name}.py").write_text(code)
