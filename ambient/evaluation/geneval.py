r"""GenEval's verdict on an image, as a function of what a detector saw in it, and the score of many images.

A prompt such as "a photo of a dog right of a teddy bear" is a list of clauses: what is to be seen, how often,
of which colour and where. Boxes are (x0, y0, x1, y1) in pixels, y downwards. Any detector will do, and a
score is comparable only to scores by the same one. Source: Ghosh et al. 2023 (arXiv:2310.11513); the public
metadata of 553 prompts have the keys that `geneval_prompt` reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ambient.data.prompt_forms import RELATIONS, TASKS
from ambient.specs.strict import refuse_unknown

SPLIT = 0.5  # of a unit offset: from here on a direction is named
COINCIDENT = 1e-3  # pixels: offsets below this have no direction
ROUNDING = 1e-5  # by which a detector's score may be above 1

Box = tuple[float, float, float, float]


class Detection(NamedTuple):
    """An object of some class: its box, how sure the detector is, and the colour a classifier gives it."""

    box: Box
    score: float  # in [0, 1]
    colour: str | None = None


@dataclass(frozen=True)
class Clause:
    """`count` objects of a class, all of `colour` and in `relation` to those of an earlier clause."""

    name: str
    count: int
    colour: str | None = None
    relation: str | None = None  # of `RELATIONS`
    to: int | None = None  # the other clause, by its place in the prompt


@dataclass(frozen=True)
class Prompt:
    """What an image is asked for. It is wrong if it has as many objects of a class as an exclusion says."""

    task: str
    include: tuple[Clause, ...]
    exclude: tuple[tuple[str, int], ...] = ()  # (class, count)


@dataclass(frozen=True)
class Rules:
    """The thresholds, as published."""

    score: float = 0.3  # a detection counts above this score
    score_counting: float = 0.9  # the same where objects are counted
    largest: int = 16  # detections of a class that count, the surest ones
    overlap: float = 1.0  # largest IoU of two objects of a class; 1: any
    margin: float = 0.1  # of both sizes, by which centres must be apart


PUBLISHED = Rules()
KEYS = ("class", "count", "color", "position")  # of a clause of the public metadata


def geneval_prompt(values: Mapping[str, Any]) -> Prompt:
    """A line of the public metadata: {tag, include: [{class, count, color?, position?}], exclude?}.

    Raises `ValueError` for a task or a relation that there is not, a count below 1, a clause that refers to
    none before it, no clause at all, and a key of a clause that is missing or unknown.
    """
    task, clauses = values.get("tag"), []
    if task not in TASKS:
        raise ValueError(f"tag: got {task!r}, allowed: {', '.join(TASKS)}")
    for one in values.get("include") or ():
        refuse_unknown(one, KEYS, "include")
        relation, to = one.get("position") or (None, None)
        if one.get("position") and (relation not in RELATIONS or to not in range(len(clauses))):
            raise ValueError(f"position: got {[relation, to]}, allowed: one of {', '.join(RELATIONS)}, and "
                             "the place of an earlier clause")
        clauses.append(Clause(*counted_class(one), one.get("color"), relation, to))
    if not clauses:
        raise ValueError("include: got none, allowed: one clause or more")
    return Prompt(task, tuple(clauses), tuple(map(counted_class, values.get("exclude") or ())))


def counted_class(clause: Mapping[str, Any]) -> tuple[str, int]:
    """(class, count) of a clause of the metadata. Raises `ValueError`."""
    name, count = clause.get("class"), clause.get("count")
    if not isinstance(name, str):
        raise ValueError(f"class: got {name!r}, allowed: a name")
    if not isinstance(count, int):
        raise ValueError(f"count: got {count!r}, allowed: a whole number")
    if count < 1:
        raise ValueError("count: got one below 1, allowed: >= 1")
    return name, count


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes whose last pixels belong to them: sides are x1 - x0 + 1."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    common = max(width, 0.0) * max(height, 0.0)
    areas = ((one[2] - one[0] + 1) * (one[3] - one[1] + 1) for one in (a, b))
    return common / (sum(areas) - common)


def relations(a: Box, b: Box, margin: float = PUBLISHED.margin) -> set[str]:
    """How a lies to b: of left of, right of, above, below; two may hold at once, and none.

    With o = centre(a) - centre(b), o' = max(|o| - margin (size(a) + size(b)), 0) sign(o) on each axis, and
    d = o' / |o|: left of for d_x < -0.5, right of for d_x > 0.5, above for d_y < -0.5, below for d_y > 0.5.
    """
    offset, reduced = [], []
    for low, high in ((0, 2), (1, 3)):
        apart = (a[low] + a[high]) / 2 - (b[low] + b[high]) / 2
        sizes = a[high] - a[low] + b[high] - b[low]
        offset.append(apart)
        reduced.append(math.copysign(max(abs(apart) - margin * sizes, 0.0), apart))
    if max(map(abs, reduced)) < COINCIDENT:
        return set()
    d_x, d_y = (one / math.hypot(*offset) for one in reduced)
    holds = {"left of": d_x < -SPLIT, "right of": d_x > SPLIT, "above": d_y < -SPLIT, "below": d_y > SPLIT}
    return {name for name, true in holds.items() if true}


def counted(detections: Sequence[Detection], counts: bool, rules: Rules = PUBLISHED) -> list[Detection]:
    """The detections of a class that count, the surest first; `counts`: whether objects are counted.

    Raises `ValueError` for a box without a first and a last corner, and for a score that is not in [0, 1].
    """
    for one in detections:
        x0, y0, x1, y1 = one.box
        if not (x0 <= x1 and y0 <= y1 and 0 <= one.score <= 1 + ROUNDING):
            raise ValueError(f"got the box {one.box} with the score {one.score}, allowed: x0 <= x1, "
                             "y0 <= y1, and scores from 0 to 1")
    least = rules.score_counting if counts else rules.score
    surest = sorted((one for one in detections if one.score > least), key=lambda one: -one.score)
    chosen: list[Detection] = []
    for one in surest[:rules.largest]:
        if rules.overlap >= 1 or all(overlap(one.box, other.box) < rules.overlap for other in chosen):
            chosen.append(one)
    return chosen


def geneval_faults(prompt: Prompt, detections: Mapping[str, Sequence[Detection]],
                   rules: Rules = PUBLISHED) -> list[str]:
    """What is wrong with an image, a sentence each; none: it shows what the prompt asks for.

    `detections`: those of each class by its name. Of a clause the `count` surest objects are judged: each
    must have the clause's colour, and its relation to each object of the clause that it refers to. A position
    is judged only where both clauses have their objects, in their colours. Raises `ValueError` as `counted`.
    """
    seen = {name: counted(ones, prompt.task == "counting", rules) for name, ones in detections.items()}
    wrong, judged = [], []
    for clause in prompt.include:
        objects = seen.get(clause.name, [])[:clause.count]
        said = fault_of(clause, objects)
        if said is None and clause.relation:
            others = judged[clause.to]
            if others is None:
                said = f"{clause.name}: what it should be {clause.relation} is not as asked for"
            elif not all(clause.relation in relations(one.box, other.box, rules.margin)
                         for one in objects for other in others):
                said = f"{clause.name}: not {clause.relation} {prompt.include[clause.to].name}"
            judged.append(objects)
        else:
            judged.append(None if said else objects)
        wrong += [said] if said else []
    for name, count in prompt.exclude:
        if len(seen.get(name, [])) >= count:
            wrong.append(f"{name}: {len(seen[name])} of them, allowed: fewer than {count}")
    return wrong


def fault_of(clause: Clause, objects: Sequence[Detection]) -> str | None:
    """What is wrong with the number or the colour of a clause's objects."""
    if len(objects) < clause.count:
        return f"{clause.name}: {len(objects)} of {clause.count}"
    if clause.colour is not None and any(one.colour != clause.colour for one in objects):
        return f"{clause.name}: not {clause.colour}"
    return None


class Share(NamedTuple):
    """A share of right images, and the standard error that it has if images are independent."""

    share: float
    standard_error: float


def geneval_score(right: Mapping[str, Sequence[bool]]) -> dict[str, Share]:
    """The share of right images of each task, and `overall`, the mean of the tasks (not of all images).

    The standard error of a task is sqrt(p (1 - p) / n) for n images, and that of the mean of k tasks
    sqrt(sum of their squares) / k. Images of one prompt are alike, so the true errors are larger. Raises
    `ValueError` for a task without images, and for none at all.
    """
    if not right or not all(map(len, right.values())):
        raise ValueError("right: got a task without images, allowed: one or more tasks with images")
    shares = {}
    for task, images in right.items():
        p = sum(images) / len(images)
        shares[task] = Share(p, math.sqrt(p * (1 - p) / len(images)))
    return shares | {"overall": Share(
        sum(one.share for one in shares.values()) / len(shares),
        math.sqrt(sum(one.standard_error**2 for one in shares.values())) / len(shares))}


def of_tasks(prompts: Sequence[Prompt], right: Sequence[bool]) -> dict[str, list[bool]]:
    """What `geneval_score` takes: of each task that there is, whether each of its images is right."""
    return {task: [bool(one) for prompt, one in zip(prompts, right, strict=True) if prompt.task == task]
            for task in TASKS if any(prompt.task == task for prompt in prompts)}
