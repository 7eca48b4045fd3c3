"""Sign a results tree, so that it stands on more than one machine's word.

An in-toto Statement (v1) in a DSSE envelope with an Ed25519 signature, through securesystemslib. Its subjects
are the Merkle root of the tree's manifests and every regular file of the tree by its digest: artefacts,
manifests, pages, logs and hidden files. Links are kept with what they point at; what is neither file nor link
is listed, and not covered.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ambient.storage import regular
from ambient.storage.files import canonical_json, write_json

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

SIGNATURE = "root.dsse.json"  # lies at the top of the folder that it signs; the one file that it can't cover
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:ambient:audit:2"
ROOT = "results"  # name of the first subject
PAYLOAD = "application/vnd.in-toto+json"
LARGEST = 2**28  # bytes of a signature; a file takes about two hundred


@dataclass(frozen=True)
class Content:
    """What lies in a folder, by path: digests of the files, targets of the links, kinds of all else."""

    files: Mapping[str, str]
    links: Mapping[str, str]
    others: Mapping[str, str]


def content(folder: Path, digest: Callable[[Path], str]) -> Content:
    """Everything in a folder but its signature. `digest` gives the SHA-256 of a regular file."""
    found = Content({}, {}, {})
    for path, kind in regular.below(Path(os.path.abspath(folder))):
        name = path.relative_to(os.path.abspath(folder)).as_posix()
        if kind == regular.LINK:
            found.links[name] = os.readlink(path)
        elif kind != regular.FILE:
            found.others[name] = kind
        elif name != SIGNATURE:
            found.files[name] = digest(path)
    return found


def statement(root: Mapping, found: Content, levels: Mapping[str, int], problems: int) -> dict:
    """What is signed: the root, the files, and what the audit had found by then."""
    subjects = {ROOT: root["sha256"]} | {f"{ROOT}/{name}": value for name, value in found.files.items()}
    return {"_type": STATEMENT, "predicateType": PREDICATE,
            "subject": [{"name": name, "digest": {"sha256": value}} for name, value in subjects.items()],
            "predicate": {"manifests": root["manifests"], "levels": dict(levels), "problems": problems,
                          "links": dict(found.links), "not_covered": dict(found.others)}}


def signer(folder: Path, key: Path) -> Signer:
    """What signs a folder with an Ed25519 private key (PEM, PKCS8, not encrypted). Nothing is written yet.

    Raises `ValueError` for another key, and where the signature's place holds anything but a signature.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner

    path = folder / SIGNATURE
    if regular.kind(path, follow=False) != regular.MISSING:
        try:
            Envelope.from_dict(json.loads(regular.read(path, LARGEST)))
        except Exception:  # whatever lies there
            raise ValueError(f"{path}: no signature, so not written over: remove it") from None
    try:
        private = load_pem_private_key(key.read_bytes(), None)
    except (ValueError, TypeError):
        raise ValueError(f"{key}: not an unencrypted private key in PEM; make one with: openssl genpkey "
                         "-algorithm ed25519 -out key.pem") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise ValueError(f"{key}: not an Ed25519 key; make one with: openssl genpkey -algorithm ed25519 "
                         "-out key.pem")
    return CryptoSigner(private)


def sign(folder: Path, by: Signer, content: Mapping) -> Path:
    """Write the signature of a folder; returns where it lies."""
    from securesystemslib.dsse import Envelope

    path = folder / SIGNATURE
    envelope = Envelope(canonical_json(content).encode(), PAYLOAD, {})
    envelope.sign(by)
    write_json(path, envelope.to_dict())
    return path


def signed(folder: Path, key: Path) -> dict:
    """The statement that this key (public, PEM) signed. Raises `ValueError` saying what is wrong with it."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import SSlibKey

    path = folder / SIGNATURE
    try:
        public = SSlibKey.from_crypto(load_pem_public_key(key.read_bytes()))
    except ValueError:
        raise BadKey(f"{key}: not a public key in PEM; get it with: openssl pkey -in key.pem -pubout "
                     "-out key.pub") from None
    try:
        envelope = Envelope.from_dict(json.loads(regular.read(path, LARGEST)))
        envelope.verify([public], 1)
        found = json.loads(envelope.payload)
    except FileNotFoundError:
        raise ValueError(f"{path}: no signature here; make one with --sign") from None
    except VerificationError:
        raise ValueError(f"{path}: not signed by this key, or altered since") from None
    except Exception as error:  # the kinds that a file can raise are not known beforehand
        kind = type(error).__name__
        raise ValueError(f"{path}: not a signature that this version reads ({kind})") from None
    if envelope.payload_type != PAYLOAD or found.get("_type") != STATEMENT:
        raise ValueError(f"{path}: signs {envelope.payload_type!r}, not an in-toto statement")
    if found.get("predicateType") != PREDICATE:
        raise ValueError(f"{path}: of an earlier version, which signed manifests alone: sign again")
    return found


class BadKey(ValueError):
    """The key given is none: a slip on the command line, no finding about the tree."""


def differences(found: Mapping, root: Mapping, now: Content,
                same: Callable[[str, str], bool]) -> list[tuple[str, str]]:
    """(path, what happened to it) since a statement was signed; the tree as a whole has the path `SIGNATURE`.

    `same` says whether a file whose digest is another has the signed content all the same.
    """
    subjects = {one["name"]: one["digest"]["sha256"] for one in found["subject"]}
    changed = []
    if subjects.pop(ROOT) != root["sha256"]:
        changed.append((SIGNATURE, "signs another root than that of the tree as it is now"))
    about = found["predicate"]
    for before, after in ((subjects, {f"{ROOT}/{name}": value for name, value in now.files.items()}),
                          (about["links"], now.links), (about["not_covered"], now.others)):
        for key in sorted(before.keys() | after.keys()):
            name = key.removeprefix(f"{ROOT}/") if before is subjects else key
            if key not in after:
                changed.append((name, "removed since the tree was signed"))
            elif key not in before:
                changed.append((name, "added since the tree was signed"))
            elif before[key] != after[key] and not (before is subjects and same(name, before[key])):
                changed.append((name, "edited since the tree was signed"))
    return changed
