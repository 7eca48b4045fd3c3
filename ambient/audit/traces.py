"""What lies behind an artefact, by its manifest: the files that its job read, and what the job was told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from ambient.audit.contents import arrays_digest
from ambient.audit.words import Result
from ambient.provenance.merkle import located
from ambient.specs.strict import build, plain
from ambient.storage.files import canonical_json

Results = Mapping[Path, Result]
MEANT = 2**10  # specifications whose meaning is kept


class Loose(Exception):
    """A chain that does not lead where it should: the message says how."""


def parent(results: Results, result: Result, role: str, *stages: str) -> Result:
    """The first file that a job read as `role`. Raises `Loose` unless one of `stages` made it."""
    entries = result.manifest["inputs"].get(role)
    if not entries:
        raise Loose(f"{result.path} was made from no {role}")
    found = results.get(located(result.key, entries[0]["path"]))
    if found is None or found.stage not in stages:
        raise Loose(f"{result.path} was made from a {role} that is no output of {' or '.join(stages)}")
    return found


def parents(results: Results, result: Result, role: str, stage: str) -> list[Result]:
    """All files that a job read as `role`; none where it read none. Raises `Loose` as `parent` does."""
    entries = result.manifest["inputs"].get(role, [])
    found = [results.get(located(result.key, entry["path"])) for entry in entries]
    if any(one is None or one.stage != stage for one in found):
        raise Loose(f"{result.path} was made from a {role} that is no output of {stage}")
    return found


def setting(result: Result, key: str) -> Any:
    """A setting of the job that made an artefact. Raises `Loose` where its specification has none."""
    try:
        return result.manifest["spec"][key]
    except (KeyError, TypeError):
        raise Loose(f"the specification of {result.path} has no {key}") from None


def content(result: Result) -> str:
    """What makes an artefact the same: its arrays, or its bytes. A manifest could claim other arrays."""
    found = result.manifest
    recorded = found.get("content_sha256") if result.pruned else arrays_of(result.key, found["sha256"])
    return recorded or found["sha256"]


@lru_cache(MEANT)
def arrays_of(path: Path, sha256: str) -> str | None:
    """The digest of the arrays of a file, whose own digest was found to be `sha256`."""
    return arrays_digest(path)


def meaning(spec: Mapping, kind: type, **without: Any) -> dict:
    """A specification with its defaults: one that was written before a setting existed means the same.

    `without`: settings that don't count, with any allowed value. What `kind` does not take stays as it is.
    """
    return meant(canonical_json({**spec, **without}), kind)


@lru_cache(MEANT)
def meant(spec: str, kind: type) -> dict:
    """A specification with its defaults, from its text: many artefacts of a tree have the same."""
    found = json.loads(spec)
    try:
        return plain(build(kind, found, "spec"))
    except ValueError:
        return found


def inputs_of(results: Results, result: Result, role: str) -> list[Result]:
    """The files that a job read as `role`."""
    entries = result.manifest["inputs"].get(role, ())
    return [results[located(result.key, entry["path"])] for entry in entries]


def trained(results: Results, samples: Result) -> Result:
    """The training behind samples. Raises `Loose` where they are of another width than they were told."""
    return averaged(results, samples, "denoiser", samples.manifest["spec"])


def guide_of(results: Results, samples: Result) -> Result | None:
    """The training of what guided samples; None where nothing did. Raises `Loose` as `trained` does."""
    told, given = samples.manifest["spec"].get("guide"), samples.manifest["inputs"].get("guide")
    if told and not told.get("told", True):  # the denoiser itself
        told = None
    if bool(told) != bool(given):
        raise Loose(f"{samples.path} was told the guide {told}, and read {'one' if given else 'none'}")
    return averaged(results, samples, "guide", told) if told else None


def averaged(results: Results, samples: Result, role: str, told: Mapping) -> Result:
    """The training of what samples were drawn from as `role`: its own weights, or an average of another width
    that is made of them. Raises `Loose` where that is not the width that they were told."""
    weights = parent(results, samples, role, "train", "reconstruct")
    width = setting(weights, "ema_std") if weights.stage == "reconstruct" else None
    if width != told.get("ema_std"):
        raise Loose(f"{samples.path} was told ema_std {told.get('ema_std')}, {weights.path} has {width}")
    return weights if width is None else parent(results, weights, "denoiser", "train")
