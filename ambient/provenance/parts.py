"""Parts of a source file: what some of its names reach. Standard library only.

A table of named entries (`CORRUPTIONS`, `PROTOCOLS`: a dictionary of this file's own functions or classes, in
capitals) is where reaching stops: of its entries a job reaches those that its specification names, so that a
new entry changes nothing for the jobs that do not use it.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from functools import cache


class Source:
    """The top-level statements of a file, by the names that they define."""

    def __init__(self, text: str) -> None:
        self.lines, self.named, self.rest = text.splitlines(), {}, []
        for node in ast.parse(text).body:
            names = list(defined(node))
            for name in names:
                self.named.setdefault(name, []).append(node)
            if not names and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
                self.rest.append(node)
        self.tables = {name: found for name, nodes in self.named.items()
                       if name.isupper() and len(nodes) == 1 and (found := self.entries(nodes[0]))}

    @property
    def texts(self) -> dict[str, str]:
        """Name -> the text that the file gives it, of the names that are given one."""
        given = {name: getattr(nodes[-1], "value", None) for name, nodes in self.named.items()}
        return {name: value.value for name, value in given.items()
                if isinstance(value, ast.Constant) and isinstance(value.value, str)}

    def entries(self, node: ast.stmt) -> dict[str, str]:
        """Key -> name of a table of entries; {} where the statement is none.

        Two forms are one: {"a": f, ...} and {f.__name__: f for f in (f, ...)}.
        """
        value = getattr(node, "value", None)
        if isinstance(value, ast.Dict):
            pairs = list(zip(value.keys, value.values, strict=True))
        elif isinstance(value, ast.DictComp) and isinstance(value.generators[0].iter, ast.Tuple):
            pairs = [(ast.Constant(getattr(one, "id", None)), one) for one in value.generators[0].iter.elts]
        else:
            return {}
        good = all(isinstance(key, ast.Constant) and isinstance(key.value, str) and isinstance(one, ast.Name)
                   and isinstance(self.named.get(one.id, [None])[0], ast.FunctionDef | ast.ClassDef)
                   for key, one in pairs)
        return {key.value: one.id for key, one in pairs} if good else {}

    def reached(self, roots: Iterable[str]) -> list[ast.stmt]:
        """The statements that some names reach, in the file's order; what defines no name counts too."""
        found, waiting = {id(node): node for node in self.rest}, list(roots)
        waiting += [name for node in self.rest for name in used(node)]
        while waiting:
            name = waiting.pop()
            for node in self.named.get(name, ()) if name not in self.tables else ():
                if id(node) not in found:
                    found[id(node)] = node
                    waiting += used(node)
        return sorted(found.values(), key=lambda node: node.lineno)

    def text(self, node: ast.stmt) -> str:
        """A statement as it is written, its decorators with it."""
        first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", ()))])
        return "\n".join(self.lines[first - 1:node.end_lineno])


def defined(node: ast.stmt) -> Iterable[str]:
    """The names that a top-level statement defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name.split(".")[0] for alias in node.names)
    elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        yield from (one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name))


def used(node: ast.AST) -> list[str]:
    """Every name in a statement."""
    return [one.id for one in ast.walk(node) if isinstance(one, ast.Name)]


@cache
def source(content: bytes) -> Source:
    """A file's parts; equal contents are parsed once."""
    return Source(content.decode().replace("\r\n", "\n"))


def sha256(name: str, content: bytes) -> str:
    """Digest of `FILE`, or of the parts `FILE:name,name` with all that they reach, given the file's bytes."""
    _, some, roots = name.partition(":")
    if not some:
        return hashlib.sha256(content).hexdigest()
    found, wanted = source(content), roots.split(",") if roots else []
    if missing := [one for one in wanted if one not in found.named]:
        return hashlib.sha256(f"no {missing[0]}".encode()).hexdigest()
    text = "\n".join(found.text(node) for node in found.reached(wanted))
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def meaning(name: str, content: bytes) -> str:
    """As `sha256`, of the syntax trees without docstrings: comments and layout are not in them."""
    _, _, roots = name.partition(":")
    found = source(content)
    text = "\n".join(map(found.text, found.reached(roots.split(",")))) if roots else content
    tree = ast.parse(text)
    for node in ast.walk(tree):
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, kinds) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()
