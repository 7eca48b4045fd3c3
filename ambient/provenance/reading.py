"""The one text of a manifest, and how it is read. Standard library only.

A manifest is read by its sections, the keys at its top. Most manifests of a tree have the same code and
environment, and many the same specification: an equal section is read and checked once, and all manifests
that have it share its value. So nothing that was read may be changed in its place.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, NamedTuple, NoReturn

from ambient.provenance import schema
from ambient.storage.files import canonical_json, digest

FORMAT = 1
KEPT = 2**11  # sections that are kept for the next manifest, those that were met last
LONGEST = 2**15  # characters of a section that is kept
MET_AGAIN = {"path", "sha256", "seal"}
OPENS, BETWEEN, CLOSES = '{\n "', ',\n "', "\n}\n"  # what stands around the sections of a manifest
DIGEST = re.compile(r'(\w+)": "([0-9a-f]{64})"')
OF_DIGESTS = {key for key, check in (schema.SECTIONS | schema.OPTIONAL).items() if check is schema.SHA256}


class Section(NamedTuple):
    """A key at the top of a manifest, its value, and the value's canonical JSON."""

    key: str
    value: Any
    canonical: str


def json_text(found: Mapping) -> str:
    """The one text of a manifest, as `ambient.storage.files.write_json` writes it."""
    return json.dumps(found, sort_keys=True, indent=1, allow_nan=False) + "\n"


def laid_out(value: Any, margin: str = "\n") -> str:
    """Plain data without NaN as `json_text` has them, on lines that begin with `margin`.

    In C, json writes no lines. What it does instead takes four times as long as this, and leaves circles of
    functions for the collector of garbage to find.
    """
    inner = f"{margin} "
    if isinstance(value, dict) and value:
        items = [f"{quoted(key)}: {laid_out(one, inner)}" for key, one in sorted(value.items())]
        return f"{{{inner}{f',{inner}'.join(items)}{margin}}}"
    if isinstance(value, list) and value:
        return f"[{inner}{f',{inner}'.join([laid_out(one, inner) for one in value])}{margin}]"
    if isinstance(value, str):
        return quoted(value)
    return repr(value) if type(value) in (int, float) else canonical_json(value)


def parse(content: bytes) -> dict:
    """The manifest that a file's bytes hold. Raises `ValueError`.

    The seal, a digest of all the rest, finds damage anywhere; whoever rewrites a manifest can compute
    it anew. A manifest has one text (line ends aside), so no byte of it can change unnoticed.
    """
    text = content.decode().replace("\r\n", "\n")
    try:
        return joined(text)
    except (ValueError, TypeError, KeyError):
        refuse(text)


def joined(text: str) -> dict:
    """The manifest whose text this is, put together from its sections.

    Raises `ValueError`, `TypeError` or `KeyError` where it is none; `refuse` says why. Each section is
    written as this program writes it and the keys ascend, so that the whole text is, too.
    """
    inner = text.removeprefix(OPENS).removesuffix(CLOSES)
    if len(text) != len(OPENS) + len(inner) + len(CLOSES):
        raise ValueError("not written as this program writes it")
    found = [of_digest(one) or (kept if len(one) < LONGEST else section)(one) for one in inner.split(BETWEEN)]
    keys = [one.key for one in found]
    if any(a >= b for a, b in zip(keys, keys[1:], strict=False)) or not schema.SECTIONS.keys() <= set(keys):
        raise ValueError("a key is missing, repeated or in another place")
    read = {one.key: one.value for one in found}
    sealed = ",".join(f'"{one.key}":{one.canonical}' for one in found if one.key != "seal")
    spec = next(one.canonical for one in found if one.key == "spec")
    own = [e for e in read.get("outputs", {}).values() if e["path"] == read["artefact"]]
    if (read["format"] != FORMAT or read["spec_sha256"] != hashlib.sha256(spec.encode()).hexdigest()
            or read["seal"] != hashlib.sha256(f"{{{sealed}}}".encode()).hexdigest()
            or any(e["sha256"] != read["sha256"] for e in own)):
        raise ValueError("does not agree with itself")
    return read


def of_digest(text: str) -> Section | None:
    """The section whose text this is, where it is a digest: hardly two are equal, and none needs a parser."""
    found = DIGEST.fullmatch(text)
    if found is None or found[1] not in OF_DIGESTS:
        return None
    return Section(found[1], sys.intern(found[2]), f'"{found[2]}"')


def section(text: str) -> Section:
    """The section whose text this is, without the quotation mark before its key. Raises as `joined` does."""
    whole = f"{OPENS}{text}{CLOSES}"
    found = DECODER.decode(whole)
    ((key, value),) = found.items()
    canonical = canonical_json(value)
    # Lists and names alone are written in another way here than in canonical JSON.
    if whole != (f"{laid_out(found)}\n" if isinstance(value, list | dict) else
                 f'{OPENS}{key}": {canonical}{CLOSES}'):
        raise ValueError("not written as this program writes it")
    (schema.SECTIONS.get(key) or schema.OPTIONAL[key])(value, key)
    if key == "code" and digest(value["files"]) != value["sha256"]:
        raise ValueError("code.files differ from code.sha256")
    if key == "spec":  # those of two training seeds differ in one number at the top
        value = {name: shared(canonical_json(one)) if isinstance(one, dict) else one
                 for name, one in value.items()}
    return Section(key, value, canonical)


kept = lru_cache(KEPT)(section)


def interned(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Names and values. Of equal names there is one in memory, and of equal digests, which stand in the
    manifests of an artefact, of its fellows, and of all that is made from it."""
    return {sys.intern(key): sys.intern(value) if key in MET_AGAIN and isinstance(value, str) else value
            for key, value in pairs}


DECODER = json.JSONDecoder(object_pairs_hook=interned)


@lru_cache(KEPT)
def shared(canonical: str) -> dict:
    """The names and values of this canonical JSON: of equal ones there is one in memory."""
    return DECODER.decode(canonical)


def refuse(text: str) -> NoReturn:
    """Raise `ValueError` with what is wrong with a text that is no manifest."""
    found = json.loads(text)
    schema.MANIFEST(found, "")
    if found["format"] != FORMAT:
        raise ValueError(f"format {found['format']}, this version reads {FORMAT}")
    if digest(found["spec"]) != found["spec_sha256"]:
        raise ValueError("spec differs from spec_sha256")
    if digest(found["code"]["files"]) != found["code"]["sha256"]:
        raise ValueError("code.files differ from code.sha256")
    own = [e for e in found.get("outputs", {}).values() if e["path"] == found["artefact"]]
    if any(e["sha256"] != found["sha256"] for e in own):
        raise ValueError("outputs gives another digest than sha256")
    if found["seal"] != digest({k: v for k, v in found.items() if k != "seal"}):
        raise ValueError("differs from its seal")
    raise ValueError("not written as this program writes it (spaces, order or repeated keys)")
