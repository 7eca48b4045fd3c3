"""A job of the workflow's graph, run in this process as its rule would run it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from ambient.jobs import stage
from ambient.provenance import manifest
from ambient.settings.graph import Graph, Node
from ambient.specs.stage import Stage, option
from ambient.specs.stages import STAGES
from ambient.specs.strict import plain, to_json

STATE = Path("results/.state")


def run(graph: Graph, job: Node) -> None:
    """Run a job unless its files are there and whole, made by this very job.

    Raises `ValueError` with what its stage says where it can't be done.
    """
    row = STAGES[job.kind]
    if is_made(graph, job, row):
        return
    files = graph.reads(job) | graph.outside(job) | graph.writes(job)
    if row.resumable:
        files["state"] = str(STATE / graph.scale / row.resumes_from(job.names))
    line = ["--replace", "--spec", to_json(graph.asks(job))]
    for role, paths in files.items():
        line += [option(role), *([paths] if isinstance(paths, str) else paths)]
    try:
        stage.begin(row, line).run(import_module(stage.module(row)).main)
    except SystemExit as left:
        if isinstance(left.code, str):
            raise ValueError(left.code.removeprefix(f"{row.recorded}: error: ")) from None
        raise


def is_made(graph: Graph, job: Node, row: Stage) -> bool:
    """Whether a job's files are there, made by this code from these inputs and settings."""
    reads, spec = graph.reads(job), plain(graph.asks(job))
    if not all(Path(path).is_file() for paths in reads.values() for path in paths):
        return False
    inputs = {role: [manifest.identify(Path(path)) for path in reads.get(role, ())] for role in row.reads}
    made_by = manifest.code(row.recorded, spec)
    return all(manifest.describes(Path(path), row.recorded, spec, inputs, made_by)
               for path in graph.writes(job).values())
