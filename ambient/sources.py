"""Which source files an artefact depends on, and the state of the repository. Standard library only."""

from __future__ import annotations

import ast
import hashlib
import os
import subprocess
from functools import cache
from pathlib import Path

from ambient.files import sha256

PACKAGE = Path(__file__).parent
ROOT = PACKAGE.parent
# These decide what is checked, recorded or kept, never which bytes an artefact has: editing them must not
# make anything again. (What a specification holds reaches a stage through its parameters.)
BOOKKEEPING = {"ambient", "ambient.stage", "ambient.manifest", "ambient.schema", "ambient.merkle",
               "ambient.attempts", "ambient.sources", "ambient.spec", "ambient.strict", "ambient.config",
               "ambient.networks", "ambient.progress", "ambient.lock", "ambient.stopping", "ambient.launch",
               "ambient.memory"}
BOOKKEEPING_PACKAGES = ("ambient.spec.", "ambient.config.")


def path_of(module: str) -> Path | None:
    """The file of a module of this package, or None."""
    base = ROOT.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def imported(path: Path) -> set[str]:
    """The `ambient` modules that a file imports, lazily inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] == "ambient" and path_of(name)}


@cache
def closure(module: str) -> tuple[Path, ...]:
    """The files that a module reaches through imports, relative to the repository, sorted.

    Raises `ValueError` for a module that does not exist.
    """
    if path_of(module) is None:
        raise ValueError(f"no module {module} under {PACKAGE.name}/")
    found, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += imported(path_of(name))
    kept = (name for name in found - BOOKKEEPING if not name.startswith(BOOKKEEPING_PACKAGES))
    return tuple(sorted(path_of(name).relative_to(ROOT) for name in kept))


def digests(module: str) -> dict[str, str]:
    """Relative path -> SHA-256 of every file in the closure."""
    return {path.as_posix(): sha256(ROOT / path) for path in closure(module)}


def git(*arguments: str) -> bytes:
    """Output of a git command in the repository; bytes, since a diff may hold any encoding."""
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True).stdout


def commit() -> dict:
    """Commit, whether tracked files differ from it, and the digest of the difference; {} without git."""
    try:
        if Path(os.fsdecode(git("rev-parse", "--show-toplevel")).strip()) != ROOT.resolve():
            return {}
        found = {"commit": git("rev-parse", "HEAD").decode().strip()}
        diff = git("diff", "--no-ext-diff", "--no-color", "HEAD")
    except (OSError, subprocess.CalledProcessError):
        return {}
    found["dirty"] = bool(diff)
    if diff:
        found["diff_sha256"] = hashlib.sha256(diff).hexdigest()
    return found
