"""The command line that every stage has: --spec JSON, one option a file, a manifest for each output."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ambient import launch, lock, manifest, memory, merkle, stopping
from ambient.attempts import Journal
from ambient.files import sha256, sha256_of_raw, write_json
from ambient.strict import from_json, plain


class Record:
    """What a stage adds to the manifests of its outputs."""

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.outside: list[dict] = []

    def external(self, name: str, path: Path, origin: str, seen: tuple[str, int] | None = None) -> str:
        """Note a file or folder from outside the tree, without its path; returns its SHA-256.

        `seen`: digest and bytes of what was read, where the reader knows them.
        """
        found, size = seen or sha256_of_raw(path)
        self.outside.append({"name": name, "file": path.name, "origin": origin, "size": size,
                             "sha256": found})
        return found


def fingerprint(path: Path) -> tuple[int, int]:
    """Size and time of a file: cheap signs that it changed while it was read."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def begin(description: str, spec_type: type, *, inputs: Sequence[str], outputs: Sequence[str],
          optional: Sequence[str] = (), options: Sequence[str] = (), many: Sequence[str] = ()) -> Job:
    """Parse the command line of the stage that is being run, before it loads anything heavy.

    Names in `many` take several paths; `optional` ones may be left out (None); `options` are paths
    that are not recorded here (a stage notes raw data by `record.external`). A wrong specification or
    a missing input ends the process with one line and status 1.
    """
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", required=True, help="specification, JSON")
    for name in (*inputs, *options, *outputs):
        extra = {"nargs": "*", "default": []} if name in many else {}
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, type=Path,
                            required=name not in optional and name not in many, **extra)
    clock = manifest.Clock()
    return Job(spec_type, parser.parse_args(), inputs, outputs, options, clock)


class Job:
    """One run of a stage: its specification and files, checked."""

    def __init__(self, spec_type: type, given: argparse.Namespace, inputs: Sequence[str],
                 outputs: Sequence[str], options: Sequence[str], clock: manifest.Clock) -> None:
        self.name = f"ambient.{Path(sys.modules['__main__'].__file__).stem}"
        self.files = {name: getattr(given, name) for name in (*inputs, *options, *outputs)}
        self.outputs, self.resumes, self.clock = outputs, "state" in options, clock
        with self.told():
            self.spec = from_json(spec_type, given.spec)
            self.inputs = {role: as_list(self.files[role]) for role in inputs}
            for role, path in ((role, path) for role, paths in self.inputs.items() for path in paths):
                if not path.exists():
                    raise ValueError(f"--{role}: no such file {path}")

    @contextmanager
    def told(self) -> Iterator[None]:
        """An expected error ends the process with one line (AMBIENT_TRACEBACK: with the whole trace)."""
        try:
            yield
        except (ValueError, OSError, ArithmeticError) as error:
            if "AMBIENT_TRACEBACK" in os.environ:
                raise
            raise SystemExit(f"{self.name}: error: {error}") from None

    def run(self, main: Callable) -> None:
        """Call `main(spec, record, **paths)` and write a manifest for each output, or fail."""
        # Rules shield their shell from SIGTERM, so that its log outlives it; a stage without a state ends.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with self.told(), ExitStack() as stack:
            if self.resumes:
                memory.keep_freed()
                stack.enter_context(stopping.watch())
                stack.enter_context(launch.group())
            self.execute(main, stack)

    def execute(self, main: Callable, stack: ExitStack) -> None:
        """Wait for another copy of the job, or do it: between two looks at the inputs, then the manifests."""
        before = {path: fingerprint(path) for paths in self.inputs.values() for path in paths}
        recorded = {role: [manifest.identify(path) for path in paths] for role, paths in self.inputs.items()}
        spec, targets = plain(self.spec), [self.files[name] for name in self.outputs]
        writer = launch.first()  # of several ranks one records
        # Of now, not of the end: a long job runs the code that was there when it began.
        made_by = manifest.code(self.name, spec)
        if self.resumes:
            state = self.files["state"]
            waited = writer and stack.enter_context(lock.held(state.with_name(state.name + ".lock")))
            if launch.agreed(waited and all(manifest.describes(target, self.name, spec, recorded, made_by)
                                            for target in targets)):
                stopping.say(f"{self.name}: another copy of this job has just made {targets[0]}; "
                             "nothing left to do")
                return
        # What is about to be replaced must not keep its old manifest.
        for target in targets if writer else ():
            manifest.path_for(target).unlink(missing_ok=True)
        record, journal = Record(), Journal(self.files.get("state") if writer else None, [
            self.name, spec, [value for entries in recorded.values() for _, value, _ in entries],
            made_by["sha256"]])
        interrupted = journal.begin(self.clock, made_by)
        main(self.spec, record, **self.files)
        for path, seen in before.items():
            if fingerprint(path) != seen:
                raise ValueError(f"{path} changed while it was read: run the job again")
        if writer:
            self.record(record, spec, targets, recorded, before, made_by, interrupted)
        journal.remove()

    def record(self, record: Record, spec: Any, targets: list[Path], recorded: dict, before: dict,
               made_by: dict, interrupted: list) -> None:
        """Write the manifests. Raises `ValueError` where the stage left an output out."""
        for target in targets:
            if not target.is_file():
                raise ValueError(f"the stage did not write {target}")
        made = {role: (path, sha256(path)) for role, path in zip(self.outputs, targets, strict=True)}
        root = merkle.of_inputs(targets[0], before) if self.name == "ambient.tables" else None
        for target in targets:
            write_json(manifest.path_for(target), manifest.build(
                target, self.name, spec, recorded, record.outside, record.facts, self.clock, made_by,
                interrupted, root, made))


def as_list(value: Path | list[Path] | None) -> list[Path]:
    """No, one or several paths as a list."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
