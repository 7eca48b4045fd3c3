"""Which source code an artefact depends on, and the state of the repository. Standard library only.

Code is named by file, `ambient/training/loop.py`, every byte of which counts. A file with a table of entries
(see `ambient.provenance.parts`) is named with the parts that are reached:
`ambient/data/corruptions.py:corrupt,facts,jpeg`. A folder of kinds (see `ambient.specs.kinds`) is such a
table: its entries are its files.
"""

from __future__ import annotations

import ast
import hashlib
import os
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from ambient.provenance import parts

PACKAGE = Path(__file__).parents[1]
ROOT = PACKAGE.parent
# What lies in these rooms decides what is checked, recorded, kept or asked for, never which bytes an artefact
# has: editing it must not make anything again. (A setting reaches a stage by its recorded specification.)
BOOKKEEPING = ("storage", "specs", "provenance", "jobs", "settings", "cluster")
STAGE_ROOMS = ("stages", "audit.stages")  # those in the audit's room state provenance levels
RUN_BY = ("ambient.__main__", "ambient.jobs.run")  # every stage: by name, so that no import tells


def module_of(stage: str) -> str:
    """The module of a stage by its recorded name, `ambient.stages.train` of `ambient.train`.

    A name that is no stage's is returned as it is.
    """
    package, _, name = stage.partition(".")
    inside = (f"{package}.{room}.{name}" for room in STAGE_ROOMS)
    return next(filter(path_of, inside), stage)


@cache
def states_levels(stage: str) -> bool:
    """Whether a stage, by its recorded name, writes down the provenance levels of its inputs."""
    return module_of(stage).startswith("ambient.audit.")


def path_of(module: str) -> Path | None:
    """The file of a module of this package, or None."""
    base = os.path.join(ROOT, *module.split("."))  # as text: it is asked thousands of times
    for path in (f"{base}.py", os.path.join(base, "__init__.py")):
        if os.path.isfile(path):
            return Path(path)
    return None


def imported(nodes: Iterable[ast.AST]) -> dict[str, set[str]]:
    """`ambient` module -> names of it that code uses; imports lazily inside functions count too."""
    names: dict[str, set[str]] = {}
    called: dict[str, str] = {}  # name in this code -> module
    mentioned = [mentions(node) for node in nodes]
    for node in chain.from_iterable(imports for imports, _ in mentioned):
        if isinstance(node, ast.Import):
            called |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif node.module and not node.level:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if own(inner):
                    called[alias.asname or alias.name] = inner
                names.setdefault(node.module, set()).update(() if own(inner) else {alias.name})
    for module in called.values():
        names.setdefault(module, set())
    for value, attribute in chain.from_iterable(attributes for _, attributes in mentioned):
        if module := called.get(value):
            names[module].add(attribute)
    return {module: found for module, found in names.items() if own(module)}


@cache
def mentions(node: ast.AST) -> tuple[list[ast.Import | ast.ImportFrom], set[tuple[str, str]]]:
    """The imports in a statement, and its attributes as (text before the dot, attribute).

    Every stage reaches the same statements: `parts.source` keeps them, so that each is walked once.
    """
    every = list(ast.walk(node))
    return ([one for one in every if isinstance(one, ast.Import | ast.ImportFrom)],
            {(ast.unparse(one.value), one.attr) for one in every
             if isinstance(one, ast.Attribute) and isinstance(one.value, ast.Name | ast.Attribute)})


def own(module: str) -> bool:
    """Whether a name is that of a module of this package."""
    return module.split(".")[0] == "ambient" and path_of(module) is not None


def is_folder(module: str) -> bool:
    """Whether a module is a package, of which other files are picked by name."""
    return path_of(module).name == "__init__.py"


def words(spec: Any) -> frozenset[str]:
    """Every text among the values of a specification: what it may pick entries of tables by."""
    found, waiting = set(), [spec]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            found.add(one)
        elif isinstance(one, dict | Mapping):  # a dict is known for a mapping at once
            waiting += one.values()
        elif isinstance(one, (list, tuple)):
            waiting += one
    return frozenset(found)


class Reach:
    """What a module reaches through imports, of files with tables by the entries that `picked` names."""

    def __init__(self, module: str, picked: frozenset[str] | None) -> None:
        self.picked, self.roots = picked, {module: {"main"}}
        waiting = [module]
        while waiting:
            here = waiting.pop()
            used = imported(self.nodes(here)) | {kind: set() for kind in self.kinds(here)}
            for other, names in used.items():
                known = self.roots.get(other)
                if known is None or (names - known and (self.source(other).tables or is_folder(other))):
                    self.roots[other] = names | (known or set())
                    waiting.append(other)

    def kinds(self, module: str) -> list[str]:
        """The files that a job reaches through a folder of kinds, by its `KINDS`.

        A specification that names none of them is of the folder's `DEFAULT`, where it has one.
        """
        if "KINDS" not in self.roots[module] or not is_folder(module):
            return []
        names = sorted(file.stem for file in path_of(module).parent.glob("[!_]*.py"))
        if self.picked is not None:
            default = {self.source(module).texts.get("DEFAULT")}
            names = sorted(self.picked.intersection(names) or default.intersection(names))
        return [f"{module}.{name}" for name in names]

    def source(self, module: str) -> parts.Source:
        return parts.source(path_of(module).read_bytes())

    def nodes(self, module: str) -> list[ast.stmt]:
        """The statements of a module that are reached."""
        found = self.source(module)
        if not self.cut(module):
            return [*found.rest, *(node for nodes in found.named.values() for node in nodes)]
        return found.reached(self.names(module))

    def cut(self, module: str) -> bool:
        """Whether only parts of a module count."""
        return self.picked is not None and bool(self.source(module).tables)

    def names(self, module: str) -> list[str]:
        """The names of a module with tables that are reached from outside, entries among them."""
        found = self.source(module)
        entries = {name for table in found.tables.values() for key, name in table.items()
                   if key in self.picked}
        return sorted((self.roots[module] & found.named.keys() - found.tables.keys()) | entries)

    def name(self, module: str) -> str:
        """How a module's code is called in a manifest."""
        path = path_of(module).relative_to(ROOT).as_posix()
        return f"{path}:{','.join(self.names(module))}" if self.cut(module) else path


@cache
def closure(module: str, picked: frozenset[str] | None = None) -> tuple[str, ...]:
    """The code that a module reaches through imports, by name from the repository's root, sorted.

    `picked` are the words of a specification; without, every entry of a table counts, as whole files do.
    Raises `ValueError` for a module that does not exist.
    """
    module = module_of(module)
    if path_of(module) is None:
        raise ValueError(f"no module {module} under {PACKAGE.name}/")
    found = Reach(module, picked)
    return tuple(sorted(found.name(name) for name in found.roots if not keeps_books(name)))


def keeps_books(name: str) -> bool:
    """Whether a module only checks, records or keeps, as its room says; or is a package's own file, which is
    no more than a sentence."""
    return name.startswith(tuple(f"ambient.{room}." for room in BOOKKEEPING)) \
        or path_of(name).name == "__init__.py"


@cache
def bookkeeping(module: str) -> tuple[str, ...]:
    """The files that run with a module and that its closure leaves out: it reaches them, or they run it."""
    reached = {name for root in (module_of(module), *RUN_BY) for name in Reach(root, None).roots}
    reached |= {name.rpartition(".")[0] for name in reached} - {""}  # a package's own file runs too
    return tuple(sorted(path_of(name).relative_to(ROOT).as_posix() for name in reached
                        if keeps_books(name) or name in RUN_BY))


def digests(module: str, spec: Mapping | None = None) -> dict[str, str]:
    """Name -> SHA-256 of all code that a module reaches, for a job of specification `spec` (plain data)."""
    names = closure(module, None if spec is None else words(spec))
    return {name: parts.sha256(name, (ROOT / name.partition(":")[0]).read_bytes()) for name in names}


def bookkeeping_digests(module: str) -> dict[str, str]:
    """Name -> SHA-256 of files that the closure leaves out: for the audit, no job is made again for them."""
    return {name: parts.sha256(name, (ROOT / name).read_bytes()) for name in bookkeeping(module)}


def meanings(module: str, spec: Mapping | None = None) -> dict[str, str]:
    """As `digests`, of what the code means: comments, docstrings and layout don't count."""
    names = closure(module, None if spec is None else words(spec))
    return {name: parts.meaning(name, (ROOT / name.partition(":")[0]).read_bytes()) for name in names}


def git(*arguments: str) -> bytes:
    """Output of a git command in the repository; bytes, since a diff may hold any encoding.

    Git refuses a repository of another owner ("dubious ownership"), whose settings could run commands.
    Whoever runs this code trusts that folder already; on a cluster it often is a colleague's.
    """
    trusted = ["-c", f"safe.directory={ROOT.resolve()}"]
    return subprocess.run(["git", *trusted, *arguments], cwd=ROOT, check=True, capture_output=True).stdout


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
