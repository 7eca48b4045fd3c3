"""Things added to a copy of the repository, as its next author would; and which files that touched."""

import filecmp
from pathlib import Path

ROOT = Path(__file__).parents[1]
LAST_ROW = ")\nSTAGES = "  # what follows the rows in the table of stages


def touched(folder, under=("ambient", "workflow", "config", "Snakefile")):
    """Files of a copy that the repository does not have, or has otherwise; sorted, from its root."""
    found = [path for name in under for path in [folder / name, *(folder / name).rglob("*")]
             if path.is_file() and "__pycache__" not in path.parts]
    return sorted(path.relative_to(folder).as_posix() for path in found
                  if not same(path, ROOT / path.relative_to(folder)))


def same(path, other):
    return other.is_file() and filecmp.cmp(path, other, shallow=False)


def insert(path, before, text):
    """Put text in front of the one place where `before` stands in a file."""
    whole = path.read_text()
    assert whole.count(before) == 1, (path, before)
    path.write_text(whole.replace(before, text + before))


def add_stage(folder, name, row, code, specification=""):
    """Add a stage to a copy of the package: its row, with the import of a specification, and its file."""
    insert(folder / "ambient/specs/stages.py", LAST_ROW, row)
    if specification:
        insert(folder / "ambient/specs/stages.py", "\nPREFIX = ", f"{specification}\n")
    (folder / f"ambient/stages/{name}.py").write_text(code)
