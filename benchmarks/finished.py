"""A finished results tree in miniature: each file a few bytes, beside manifests as jobs write them.

The workflow finds nothing to do in it: each manifest has the specification and the digests of now.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from ambient.provenance import manifest, merkle, source_code
from ambient.settings.graph import Graph, Node
from ambient.specs.stage import Stage
from ambient.specs.stages import STAGES
from ambient.specs.strict import plain
from ambient.storage.files import sha256, write_json


@cache
def code_of(stage: str, words: frozenset[str]) -> dict:
    """The code block of the manifests of a stage whose specification has these words."""
    return manifest.code(stage, {"words": sorted(words)})


def finish(graph: Graph, targets: Iterable[str]) -> None:
    """Write all files behind some targets below the working folder, with their manifests."""
    for job in graph.behind(targets):
        paths = {role: Path(path) for role, path in graph.writes(job).items()}
        for path in paths.values():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content(path))
        if job.kind in STAGES:
            record(graph, job, STAGES[job.kind], paths)


def content(path: Path) -> bytes:
    """Bytes that no other file has; of an array file one array."""
    name = str(path).encode()
    return save({"name": np.frombuffer(name, np.uint8)}) if path.suffix == ".safetensors" else name


def record(graph: Graph, job: Node, stage: Stage, paths: dict[str, Path]) -> None:
    """Write the manifests of a job."""
    read = {role: list(map(Path, files)) for role, files in graph.reads(job).items()}
    inputs = {role: [manifest.identify(path) for path in read.get(role, ())] for role in stage.reads}
    outside = [{"file": Path(path).name, "sha256": "f" * 64, "size": 3}
               for path in graph.outside(job).values()]
    spec = plain(graph.asks(job))
    given = [path for files in read.values() for path in files]
    root = merkle.of_inputs(next(iter(paths.values())), given) if stage.rooted else None
    made = {role: (path, sha256(path)) for role, path in paths.items()}
    for path in paths.values():
        write_json(manifest.path_for(path), manifest.build(
            path, stage.recorded, spec, inputs, outside, {}, manifest.Clock(),
            code_of(stage.recorded, source_code.words(spec)), root=root, outputs=made))
