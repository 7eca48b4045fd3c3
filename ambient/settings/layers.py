"""Strict YAML files laid over each other. What does not parse, or is given twice, is refused by its line."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from ambient.specs.strict import SpecError

LARGEST_FILE = 2**20  # bytes of one file of settings; the largest here has 20 thousand
LARGEST_TREE = 20_000  # values of one file with its aliases written out; the largest here has 1,500
DEEPEST = 50  # keys within keys
FILES = 256  # texts that are kept once they are read; there are some forty
ODD_NUMBER = re.compile(r"[-+]?0[0-7_]+|.*:.*")  # YAML 1.1 reads 010 as 8, and 1:30 as 90


class StrictLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML without surprises: a key given twice is an error, not the last one, and keys are text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # `<<: *anchor`; what follows it may replace it
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise SpecError(f"{place(key_node)}: the key {key!r} is no text: put it in quotes")
            if key in seen:
                raise SpecError(f"{place(key_node)}: key {key!r} is given twice; keep one of them")
            seen.add(key)
        return super().construct_mapping(node, deep)

    def plain_number(self, node: yaml.ScalarNode) -> float:
        """A number as people read it."""
        if ODD_NUMBER.fullmatch(node.value):
            raise SpecError(f"{place(node)}: {node.value} would be read as another number: write it without "
                            "leading zeros and colons, or in quotes if it is text")
        whole = node.tag.endswith(":int")
        return self.construct_yaml_int(node) if whole else self.construct_yaml_float(node)

    def refuse(self, node: yaml.Node) -> None:
        """What JSON does not have (a date, say) is no setting."""
        kind = node.tag.rpartition(":")[2]
        raise SpecError(f"{place(node)}: {node.value} would be read as a {kind}: quote it if it is text")


StrictLoader.add_constructor("tag:yaml.org,2002:int", StrictLoader.plain_number)
StrictLoader.add_constructor("tag:yaml.org,2002:float", StrictLoader.plain_number)
StrictLoader.add_constructor("tag:yaml.org,2002:timestamp", StrictLoader.refuse)
StrictLoader.add_constructor(None, StrictLoader.refuse)


def place(found: yaml.Node | yaml.Event) -> str:
    """File and line of a piece of YAML."""
    return f"{found.start_mark.name}, line {found.start_mark.line + 1}"


def check_size(events: Iterable[yaml.Event]) -> None:
    """Refuse aliases that multiply or contain themselves, depths that no setting has, and tags.

    Reads the file's events, before anything is built: a file of 600 bytes can stand for 10^8 values, and the
    parser in C builds what is nested by recursion without a limit.
    """
    sizes: dict[str, int] = {}  # of each anchor that is complete
    open_: list[list] = []  # [anchor, values so far] of each list or map that the reader is in
    for event in events:
        size = 1
        if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            open_.append([event.anchor, 1])
            if len(open_) > DEEPEST:
                raise SpecError(f"{place(event)}: values within values, more than {DEEPEST} deep")
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            anchor, size = open_.pop()
            sizes[anchor] = size
        elif isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in open_):
                raise SpecError(f"{place(event)}: *{event.anchor} contains itself")
            size = sizes.get(event.anchor, 1)
        elif not isinstance(event, yaml.ScalarEvent):
            continue
        if getattr(event, "tag", None):
            raise SpecError(f"{place(event)}: the tag {event.tag!r} has no meaning here: take it out")
        if open_ and not isinstance(event, yaml.CollectionStartEvent):
            open_[-1][1] += size
            if open_[-1][1] > LARGEST_TREE:
                raise SpecError(f"{place(event)}: more than {LARGEST_TREE:,} values with the aliases written "
                                "out")


def text_of(path: Path) -> str:
    """The text of a file of settings. Raises `SpecError` where there is none, or it is not UTF-8."""
    if not path.exists():
        raise SpecError(f"{path}: no such file")
    if not path.is_file() or path.stat().st_size > LARGEST_FILE:
        raise SpecError(f"{path}: not a text file of settings, of at most {LARGEST_FILE:,} bytes")
    try:
        content = path.read_bytes()
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, wrong = content[:error.start].count(b"\n") + 1, content[error.start]
        utf16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
        what = "UTF-16" if utf16 else f"byte {wrong:#x} is not UTF-8"
        raise SpecError(f"{path}, line {line}: {what}: save the file as UTF-8") from None
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror}") from None


def load(path: Path) -> dict:
    """Read one YAML file of keys and values. Raises `SpecError` naming file and line.

    What was read is shared by all who ask for the same text: nothing of it may be changed in its place.
    """
    return parsed(text_of(path), path)


@lru_cache(FILES)
def parsed(text: str, path: Path) -> dict:
    """What the text of a file of settings says: read once for all scales that are laid over it."""
    try:
        check_size(yaml.parse(named(text, path), StrictLoader))
        loaded = yaml.load(named(text, path), StrictLoader)  # noqa: S506, a subclass of SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or getattr(error, "reason", "not YAML")
        if mark and "\t" in "".join(text.split("\n")[mark.line:mark.line + 1]):
            what += " (the line has a tab: indent with spaces)"
        raise SpecError(f"{path}{where}: {what}") from None
    except SpecError:
        raise
    except ValueError as error:  # a number that Python does not read
        raise SpecError(f"{path}: {error}") from None
    if loaded is not None and not isinstance(loaded, dict):
        raise SpecError(f"{path}: got {type(loaded).__name__}, allowed: keys and values")
    return loaded or {}


def named(text: str, path: Path) -> io.StringIO:
    """A text as an open file of that name, which YAML's marks show."""
    file = io.StringIO(text)
    file.name = str(path)
    return file


def overlay(base: Any, over: Any) -> Any:
    """`over` laid over `base`: maps merge key by key, anything else replaces.

    So does a map that names its `kind` where the other one is of another: they have not the same keys.
    """
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    if base and "kind" in over and over["kind"] != base.get("kind"):
        return over
    merged = dict(base)
    for key, value in over.items():
        merged[key] = overlay(base[key], value) if key in base else value
    return merged


def lines(value: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every leaf; `rows[2].run` in a list of mappings."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from lines(inner, f"{where}.{key}" if where else key)
    elif isinstance(value, list | tuple) and value and all(isinstance(one, Mapping) for one in value):
        for number, one in enumerate(value):
            yield from lines(one, f"{where}[{number}]")
    else:
        yield where, value
