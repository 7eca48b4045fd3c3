"""GenEval's six forms of a prompt: from what is asked for to its words, and back.

What is asked for is a line of GenEval's metadata: {tag, include: [{class, count, color?, position?}],
exclude?}. The words follow from it, and it follows from the words where the classes and colours are known. So
a list of captions is all that a judge of images needs. Source: Ghosh et al. 2023 (arXiv:2310.11513).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
RELATIONS = ("left of", "right of", "above", "below")
NUMBERS = {"two": 2, "three": 3, "four": 4}
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
BEFORE = "a photo of "  # GenEval's prompts begin so; it may be left out

Metadata = dict[str, Any]


def single_object(name: str) -> Metadata:
    """One object."""
    return {"tag": "single_object", "include": [{"class": name, "count": 1}]}


def two_object(name: str, other: str) -> Metadata:
    """Two objects of different classes."""
    return {"tag": "two_object", "include": [{"class": one, "count": 1} for one in (name, other)]}


def counting(name: str, count: int) -> Metadata:
    """`count` objects of a class, and not one more."""
    return {"tag": "counting", "include": [{"class": name, "count": count}],
            "exclude": [{"class": name, "count": count + 1}]}


def colors(name: str, colour: str) -> Metadata:
    """One object of a colour."""
    return {"tag": "colors", "include": [{"class": name, "count": 1, "color": colour}]}


def position(name: str, relation: str, other: str) -> Metadata:
    """An object in a relation to another one, whose clause comes first."""
    return {"tag": "position", "include": [{"class": other, "count": 1},
                                           {"class": name, "count": 1, "position": [relation, 0]}]}


def color_attr(name: str, colour: str, other: str, others: str) -> Metadata:
    """Two objects, each of a colour."""
    return {"tag": "color_attr", "include": [{"class": name, "count": 1, "color": colour},
                                             {"class": other, "count": 1, "color": others}]}


def words(metadata: Metadata) -> str:
    """The caption, without GenEval's "a photo of"."""
    clauses = metadata["include"]
    if metadata["tag"] == "counting":
        number = next(word for word, count in NUMBERS.items() if count == clauses[0]["count"])
        return f"{number} {plural(clauses[0]['class'])}"
    said = [article(f"{one['color']} {one['class']}" if "color" in one else one["class"]) for one in clauses]
    if metadata["tag"] == "position":
        return f"{said[1]} {clauses[1]['position'][0]} {said[0]}"
    return " and ".join(said)


def article(noun: str) -> str:
    """With "a", or "an" before a vowel."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def plural(name: str) -> str:
    """With es after s, else with s: GenEval writes "sandwichs" and "knifes"."""
    return name + ("es" if name.endswith("s") else "s")


def singular(words: str, names: Collection[str]) -> str | None:
    """The class of which the words are a plural; None: of none. What grammars say counts, too."""
    for name in names:
        if words in (plural(name), f"{name}es", name, re.sub("fe?$", "ves", name),
                     re.sub("y$", "ies", name)):
            return name
    return None


def understood(caption: str, names: Collection[str]) -> Metadata:
    """What a caption of one of the six forms asks for, of classes `names`: the inverse of `words`.

    Raises `ValueError` for a caption that has none of the forms.
    """
    said = caption.removeprefix(BEFORE)
    number, _, noun = said.partition(" ")
    if number in NUMBERS and (name := singular(noun, names)):
        return counting(name, NUMBERS[number])
    if (one := clause(said, names)) is not None:
        return single_object(one[0]) if one[1] is None else colors(*one)
    for relation in RELATIONS:
        first, between, second = said.partition(f" {relation} ")
        one, other = clause(first, names), clause(second, names)
        if between and one and other and one[1] is other[1] is None:
            return position(one[0], relation, other[0])
    first, between, second = said.partition(" and ")
    one, other = clause(first, names), clause(second, names)
    if one and other:
        if one[1] is other[1] is None:
            return two_object(one[0], other[0])
        if None not in (one[1], other[1]):
            return color_attr(*one, *other)
    raise ValueError(f"the caption {caption!r} has none of GenEval's six forms, of the classes "
                     f"{', '.join(sorted(names)[:12])}{', ...' if len(names) > 12 else ''}")


def clause(said: str, names: Collection[str]) -> tuple[str, str | None] | None:
    """(class, colour or None) of "a red heart"; None where it is no such clause."""
    match = re.fullmatch(rf"an? (?:({'|'.join(COLOURS)}) )?(.+)", said)
    return (match[2], match[1]) if match and match[2] in names else None
