"""The command line that every stage has: --spec JSON, one option a file, a manifest for each output."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ambient import launch, lock, manifest, merkle, stopping
from ambient.attempts import Journal
from ambient.files import sha256, write_json
from ambient.strict import from_json, plain


class Record:
    """What a stage adds to the manifests of its outputs."""

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.outside: list[dict] = []

    def external(self, name: str, path: Path, origin: str) -> None:
        """Note a file from outside the results tree, by its digest; only its base name is kept."""
        self.outside.append({"name": name, "file": path.name, "origin": origin,
                             "size": path.stat().st_size, "sha256": sha256(path)})


def parse(main: Callable, names: Sequence[str], optional: Sequence[str],
          many: Sequence[str]) -> argparse.Namespace:
    """The command line of a stage."""
    description = sys.modules[main.__module__].__doc__
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", required=True, help="specification, JSON")
    for name in names:
        extra = {"nargs": "*", "default": []} if name in many else {}
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, type=Path,
                            required=name not in optional and name not in many, **extra)
    return parser.parse_args()


def fingerprint(path: Path) -> tuple[int, int]:
    """Size and time of a file: cheap signs that it changed while it was read."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def run(main: Callable, spec_type: type, *, inputs: Sequence[str], outputs: Sequence[str],
        optional: Sequence[str] = (), options: Sequence[str] = (), many: Sequence[str] = ()) -> None:
    """Parse the command line, call `main(spec, record, **paths)`, write a manifest for each output.

    Names in `many` take several paths; `optional` ones may be left out (None); `options` are paths
    that are not recorded here (a stage notes raw data by `record.external`). A `ValueError`, `OSError`
    or `ArithmeticError` ends the process with one line and status 1 (set AMBIENT_TRACEBACK for the
    whole trace). Without its manifests a job fails.
    """
    given = parse(main, [*inputs, *options, *outputs], optional, many)
    name = f"ambient.{Path(sys.modules[main.__module__].__file__).stem}"
    # Rules shield their shell from SIGTERM, so that its log outlives it; a stage without a state just ends.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with ExitStack() as stack:
            if "state" in options:
                stack.enter_context(stopping.watch())
                stack.enter_context(launch.group())
            execute(name, main, spec_type, given, inputs, outputs, options, stack)
    except (ValueError, OSError, ArithmeticError) as error:
        if "AMBIENT_TRACEBACK" in os.environ:
            raise
        raise SystemExit(f"{name}: error: {error}") from None


def execute(name: str, main: Callable, spec_type: type, given: argparse.Namespace,
            inputs: Sequence[str], outputs: Sequence[str], options: Sequence[str],
            stack: ExitStack) -> None:
    clock, record = manifest.Clock(), Record()
    spec = from_json(spec_type, given.spec)
    paths = {role: as_list(getattr(given, role)) for role in inputs}
    for role, files in paths.items():
        for path in files:
            if not path.exists():
                raise ValueError(f"--{role}: no such file {path}")
    before = {path: fingerprint(path) for files in paths.values() for path in files}
    recorded = {role: [manifest.identify(path) for path in files] for role, files in paths.items()}
    targets = [getattr(given, output) for output in outputs]
    writer = launch.first()  # of several ranks one records
    # Of now, not of the end: a long job runs the code that was there when it began.
    made_by = manifest.code(name)
    if "state" in options:
        waited = stack.enter_context(lock.held(given.state.with_name(given.state.name + ".lock"))
                                     ) if writer else False
        if launch.agreed(waited and all(manifest.describes(
                target, name, plain(spec), recorded, made_by) for target in targets)):
            stopping.say(f"{name}: another copy of this job has just made {targets[0]}; nothing left to do")
            return
    # What is about to be replaced must not keep its old manifest.
    for target in targets if writer else ():
        manifest.path_for(target).unlink(missing_ok=True)
    journal = Journal(getattr(given, "state", None) if writer else None,
                      [name, plain(spec), [v for e in recorded.values() for _, v, _ in e],
                       made_by["sha256"]])
    interrupted = journal.begin(clock, made_by)
    main(spec, record, **{n: getattr(given, n) for n in [*inputs, *options, *outputs]})
    for path, seen in before.items():
        if fingerprint(path) != seen:
            raise ValueError(f"{path} changed while it was read: run the job again")
    for target in targets:
        if writer and not target.is_file():
            raise ValueError(f"the stage did not write {target}")
    made = {role: (path, sha256(path)) for role, path in zip(outputs, targets, strict=True)} if writer else {}
    root = merkle.of_inputs(targets[0], before) if writer and name == "ambient.tables" else None
    for target in targets if writer else ():
        write_json(manifest.path_for(target), manifest.build(
            target, name, plain(spec), recorded, record.outside, record.facts, clock, made_by,
            interrupted, root, made))
    journal.remove()


def as_list(value: Path | list[Path] | None) -> list[Path]:
    """No, one or several paths as a list."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
