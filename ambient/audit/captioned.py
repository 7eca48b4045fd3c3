"""Scores and judges' answers are bound to their own samples, captions and models.

A judge's answers can't be derived again without asking. What can be told from their file is whether they are
of the pairs, captions and orders that the job had to ask about, and whether the verdicts follow from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from ambient.audit.traces import Loose, Results, inputs_of, parent, setting
from ambient.audit.words import Result
from ambient.specs import FigureSpec, JudgeSpec, SamplingSpec, TableSpec
from ambient.specs.strict import build
from ambient.storage.files import read_json


def scores(results: Results, result: Result) -> Iterator[str]:
    """What is wrong with the files that scores of samples were made from."""
    try:
        samples = parent(results, result, "samples", "sample")
        check_named(results, result, "model", "text_encoder")
        check_named(results, result, "real", "prepare")
        if result.manifest["inputs"].get("captions"):
            check_captions(results, result, samples)
    except Loose as error:
        yield str(error)


def columns(results: Results, result: Result, spec: TableSpec) -> Iterator[str]:
    """Which of the files of samples' scores that a table shows are of another scorer than its column."""
    scored = inputs_of(results, result, "scored")
    each = len(spec.rows) * len(spec.training_seeds)
    for k, one in enumerate(scored):
        if one.key.stem != (expected := f"scores-{spec.scorers[k // each]}"):
            yield f"{one.path} is shown as {expected}"


def answers(results: Results, result: Result) -> Iterator[str]:
    """What is wrong with a judge's answers: whose samples they are of, their pairs, and what they say."""
    from ambient.evaluation.judging import agreement

    try:
        spec = build(JudgeSpec, result.manifest["spec"], "spec")
        sides = [parent(results, result, role, "sample") for role in ("samples", "than")]
        check_sides(result, sides)
        for one in sides:
            check_captions(results, result, one)
        check_named(results, result, "model", "text_encoder")
        check_named(results, result, "real", "prepare")
        found = read_json(result.key)
        asked = parent(results, result, "captions", "prepare")
        captions = captions_of(asked, spec.each, setting(sides[0], "num_samples"))
        check_pairs(spec, found["pairs"], pairs_of(sides[0], spec.pairs), captions)
        check_pairs(spec, found["checks"], [["check", 0, k] for k in range(len(found["checks"]))], None)
        if found["agreement"] != (agreement(found["checks"]) if found["checks"] else None):
            yield f"the agreement {found['agreement']} does not follow from its checks"
        if bool(spec.checks) != bool(found["checks"]) or len(found["checks"]) > spec.checks:
            yield f"{len(found['checks'])} checks, its specification says {spec.checks}"
    except Loose as error:
        yield str(error)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        yield f"is no file of a judge's answers ({type(error).__name__} {error})"


def preferences(results: Results, result: Result) -> Iterator[str]:
    """Which answers behind a figure of preferences are of another judge, or of other runs, than it says."""
    if result.manifest["spec"].get("kind") != "preferences":
        return
    try:
        spec = build(FigureSpec, result.manifest["spec"], "spec")
    except ValueError:  # its derivation says so
        return
    runs = {pair.than for pair in spec.also} | {spec.than}
    for one in inputs_of(results, result, "judged"):
        judge, _, than = one.key.parts[-4:-1]
        if one.stage != "judge" or judge != spec.judge or than not in runs:
            yield f"{one.path} is of {judge} and {than}, its specification says {spec.judge} and {spec.than}"
        elif setting(one, "kind") != spec.judged_by:
            yield f"{one.path} is of a judge of kind {setting(one, 'kind')}, its specification says " \
                  f"{spec.judged_by}"


def check_named(results: Results, result: Result, role: str, stage: str) -> None:
    """Raise `Loose` unless a file that a specification names is the one that was read."""
    given = result.manifest["inputs"].get(role)
    name, said = (parent(results, result, role, stage).key.stem if given else None,
                  result.manifest["spec"].get(role))
    if name != said:
        raise Loose(f"{result.path} was made with the {role} {name}, its specification says {said}")


def check_captions(results: Results, result: Result, samples: Result) -> None:
    """Raise `Loose` unless a file is of the captions, and of as many samples of each, as samples are."""
    own, theirs = (parent(results, one, "captions", "prepare") for one in (result, samples))
    if own is not theirs:
        raise Loose(f"{result.path} is of the captions of {own.path}, {samples.path} of {theirs.path}")
    spec = build(SamplingSpec, samples.manifest["spec"], "spec")
    if (each := setting(result, "each")) != spec.captions_each:
        raise Loose(f"{result.path} takes {each} samples of a caption, {samples.path} has "
                    f"{spec.captions_each}")


def check_sides(result: Result, sides: Sequence[Result]) -> None:
    """Raise `Loose` unless answers lie in the folder of the two runs whose samples they are of."""
    runs, seed = result.key.parts[-3:-1], result.key.stem
    for one, run in zip(sides, runs, strict=True):
        if PurePosixPath(*one.key.parts[-4:-1]) != PurePosixPath("runs", run, seed):
            raise Loose(f"{result.path} is of {one.path}, which is not runs/{run}/{seed}")


def pairs_of(samples: Result, most: int | None) -> list[list]:
    """The keys of all pairs that had to be asked about."""
    seeds, count = len(setting(samples, "seeds")), setting(samples, "num_samples")
    return [["sample", seed, k] for seed in range(seeds) for k in range(count)][:most]


def captions_of(asked: Result, each: int, count: int) -> list[str] | None:
    """The caption of each sample of a seed; None where the captions were pruned."""
    from ambient.data.datasets import read
    from ambient.data.texts import of_samples

    return of_samples(read(asked.key).captions, each, count) if asked.level >= 1 else None


def check_pairs(spec: JudgeSpec, records: Sequence[Mapping], keys: Sequence[list],
                captions: Sequence[str] | None) -> None:
    """Raise `Loose` unless records are of these pairs, each asked about in both orders, with what follows."""
    from ambient.diffusion import randomness
    from ambient.evaluation.judging import SIDES, verdict

    if [one["key"] for one in records] != list(keys):
        raise Loose(f"the pairs are not the {len(keys)} that are to be asked about")
    for one in records:
        what, seed, number = one["key"]
        at = f"{what} {number} of seed {seed}"
        if captions is not None and one["caption"] != captions[number]:
            raise Loose(f"{at} has the caption {one['caption'][:80]!r}, its samples have "
                        f"{captions[number][:80]!r}")
        turned = randomness.numpy_generator("judge", spec.seed, *one["key"]).random() < 0.5
        order = SIDES[::-1] if turned else SIDES
        if [answer["shown"] for answer in one["answers"]] != [list(order), list(order[::-1])]:
            raise Loose(f"{at} was not asked about in the orders that its number draws")
        first, second = (answer["preferred"] for answer in one["answers"])
        if one["verdict"] != verdict(first, second):
            raise Loose(f"{at}: the verdict {one['verdict']} does not follow from {first} and {second}")
