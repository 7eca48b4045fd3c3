"""Stage: which of two runs' samples a judge prefers, pair by pair, with every answer that it gave.

Pairs are samples of the same seed and number, so of the same caption and drawn from the same latents.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ambient.data.datasets import Dataset, read
from ambient.data.texts import of_samples
from ambient.evaluation import judges
from ambient.evaluation.captioned import captioned
from ambient.evaluation.judging import agreement, judged
from ambient.jobs.shards import collect
from ambient.jobs.state import State
from ambient.jobs.stopping import patiently, say
from ambient.specs import JudgeSpec
from ambient.storage.arrays import Array, latest, part
from ambient.storage.files import write_json


def main(spec: JudgeSpec, record, *, samples: Path, than: Path, captions: Path, state: State, out: Path,
         model: Path | None = None, real: Path | None = None, program: Path | None = None) -> None:
    """`out` gets a record of each pair of `samples` and those of the other run, `than`; and of each check.

    A check is a pair of `real` images, one of which has the caption that is asked about: the share of these
    that the judge gets right says what its other verdicts are worth.
    """
    by = "" if program is None else f"-{record.external('program', program, spec.GIVEN)[:16]}"
    ask = judges.KINDS[spec.kind].judge(spec, model or program)
    ours, theirs = latest(samples), latest(than)
    if ours.shape != theirs.shape:
        raise ValueError(f"{samples} and {than}: samples of the shapes {ours.shape} and {theirs.shape} are "
                         "no pairs")
    asked = read(captions)
    pairs = pairs_of(spec, ours, theirs, of_samples(asked.captions, spec.each, ours.shape[1]))
    checks = checks_of(spec, real) if real else []
    every = checks + pairs
    parts = [every[first:first + spec.SHARD] for first in range(0, len(every), spec.SHARD)]
    so_far: list[dict] = []  # unclear ones of this attempt

    def make(number: int) -> dict[str, np.ndarray]:
        keys, texts, images, others = zip(*parts[number], strict=True)
        found = judged(ask, spec.seed, keys, texts, stacked(images), stacked(others))
        so_far.extend(one for one in found if one["verdict"] == judges.UNCLEAR)
        check_unclear(spec, so_far, len(every))
        return {"records": np.frombuffer(bytearray(json.dumps(found).encode()), np.uint8)}

    found = collect("judge", state, [(f"answers{by}-{k}", len(some)) for k, some in enumerate(parts)], make)
    if found is None:
        return
    records = [one for some in found for one in json.loads(some["records"].tobytes())]
    unclear = [one for one in records if one["verdict"] == judges.UNCLEAR]
    check_unclear(spec, unclear, len(records))
    if unclear:
        say(f"judge: said nothing clear of {len(unclear)} of {len(records)} pairs, which are counted apart")
        record.facts["unclear"] = len(unclear)
    tell_groups(spec, asked, records[len(checks):])
    right = agreement(records[:len(checks)]) if checks else None
    if right is not None:
        say(f"judge: prefers the right one of two real images in {right:.1%} of {len(checks)} pairs")
    patiently(write_json, out, {"judge": spec.kind, "agreement": right, "checks": records[:len(checks)],
                                "pairs": records[len(checks):]})
    record.facts |= {"pairs": len(pairs), "checks": len(checks), "agreement": right}


def check_unclear(spec: JudgeSpec, records: list[dict], count: int) -> None:
    """Raise `ValueError` where the judge said nothing clear of a larger share of all pairs than it may."""
    if len(records) > spec.unclear * count:
        what, seed, number = records[0]["key"]
        said = [one["said"] for one in records[0]["answers"]]
        raise ValueError(f"{what} {number} of seed {seed}, {records[0]['caption']!r}: the judge said {said}, "
                         f"the first of {len(records)} unclear answers; of {count} pairs a share of "
                         f"{spec.unclear:g} is allowed (setting unclear of the judge)")


def tell_groups(spec: JudgeSpec, asked: Dataset, records: list[dict]) -> None:
    """Note of each pair of samples to which category its caption belongs, where the list of captions says."""
    groups = [name.rpartition("/")[0] for name in asked.file_names]
    for record in records if any(groups) else ():
        _, _, number = record["key"]
        record["group"] = groups[number // spec.each % len(groups)]


Place = tuple[Array, int]  # images, of which one is meant: they may be too many for memory
Pair = tuple[tuple[str, int, int], str, Place, Place]


def stacked(places: Sequence[Place]) -> np.ndarray:
    """The images (N, C, H, W) at some places."""
    return np.stack([images[k] for images, k in places])


def pairs_of(spec: JudgeSpec, ours: Array, theirs: Array, prompts: list[str]) -> list[Pair]:
    """(key, caption, image, other) of the samples, seed by seed."""
    seeds, count = ours.shape[:2]
    both = [(part(ours, seed), part(theirs, seed)) for seed in range(seeds)]
    return [(("sample", seed, k), prompts[k], (own, k), (other, k))
            for seed, (own, other) in enumerate(both) for k in range(count)][:spec.pairs]


def checks_of(spec: JudgeSpec, real: Path) -> list[Pair]:
    """(key, caption, image, other) of real images: other is the next image that has another caption."""
    data, captions = captioned(real)
    found: list[Pair] = []
    for k, caption in enumerate(captions[:spec.checks]):
        later = [*range(k + 1, len(captions)), *range(k)]
        other = next((row for row in later if captions[row] != caption), None)
        if other is None:
            raise ValueError(f"{real}: all captions are {caption!r}, checks need two or more")
        found.append((("check", 0, k), caption, (data.images, k), (data.images, other)))
    return found
