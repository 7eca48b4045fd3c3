"""Sign the root of a results tree, so that it stands on more than one machine's word.

An in-toto Statement (v1) whose subject is the Merkle root of the tree's manifests, in a DSSE envelope with
an Ed25519 signature, through securesystemslib. Every manifest, and with it every artefact, specification
and path, is behind the root: a file that is added, renamed, swapped or deleted changes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ambient.files import canonical_json, write_json

SIGNATURE = "root.dsse.json"  # lies at the top of the folder whose root it signs
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:ambient:audit:1"
PAYLOAD = "application/vnd.in-toto+json"


def statement(root: Mapping, levels: Mapping[str, int], problems: int) -> dict:
    """What is signed: the root, and what the audit had found by then."""
    return {"_type": STATEMENT, "predicateType": PREDICATE,
            "subject": [{"name": "results", "digest": {"sha256": root["sha256"]}}],
            "predicate": {"manifests": root["manifests"], "levels": dict(levels), "problems": problems}}


def sign(folder: Path, key: Path, content: Mapping) -> Path:
    """Sign with an Ed25519 private key (PEM, PKCS8, not encrypted). Raises `ValueError` for another."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner

    try:
        private = load_pem_private_key(key.read_bytes(), None)
    except (ValueError, TypeError):
        raise ValueError(f"{key}: not an unencrypted private key in PEM; make one with: openssl genpkey "
                         "-algorithm ed25519 -out key.pem") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise ValueError(f"{key}: not an Ed25519 key; make one with: openssl genpkey -algorithm ed25519 "
                         "-out key.pem")
    envelope = Envelope(canonical_json(content).encode(), PAYLOAD, {})
    envelope.sign(CryptoSigner(private))
    path = folder / SIGNATURE
    write_json(path, envelope.to_dict())
    return path


def verify(folder: Path, key: Path, root: Mapping) -> str | None:
    """None if the folder's signature is by this key (public, PEM) and of this root; else what is wrong."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import SSlibKey

    path = folder / SIGNATURE
    try:
        public = SSlibKey.from_crypto(load_pem_public_key(key.read_bytes()))
    except ValueError:
        raise ValueError(f"{key}: not a public key in PEM; get it with: openssl pkey -in key.pem -pubout "
                         "-out key.pub") from None
    try:
        envelope = Envelope.from_dict(json.loads(path.read_text()))
        envelope.verify([public], 1)
        if envelope.payload_type != PAYLOAD:
            return f"{path}: signs {envelope.payload_type!r}, not an in-toto statement"
        found = json.loads(envelope.payload)
        signed = {s["digest"]["sha256"] for s in found["subject"]}
    except FileNotFoundError:
        return f"{path}: no signature here; make one with --sign"
    except VerificationError:
        return f"{path}: not signed by this key, or altered since"
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        return f"{path}: not a signature that this version reads ({type(error).__name__})"
    if found.get("_type") != STATEMENT or signed != {root["sha256"]}:
        return f"{path}: signs another root than that of the tree as it is now"
    return None
