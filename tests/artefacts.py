"""Artefacts with manifests, as jobs leave them, without a job."""

from ambient.provenance import manifest
from ambient.storage.files import write_json


def made(path, stage="ambient.corrupt", inputs=(), spec=None, facts=None, external=()):
    """An artefact with a manifest, as a job would leave it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_text(f"content of {path.name}\n")
    recorded = {"data": [manifest.identify(p) for p in inputs]}
    write_json(manifest.path_for(path), manifest.build(
        path, stage, spec or {"a": 1}, recorded, external, facts or {}, manifest.Clock(),
        outputs={"out": (path, manifest.sha256(path))}))
    return path
