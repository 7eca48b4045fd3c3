"""The command line that every stage has: --spec JSON, one option a file, a manifest for each output."""

from __future__ import annotations

import argparse
import ast
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn

from ambient.jobs import guard, hashed, launch, memory, progress, stopping
from ambient.jobs.identity import Identity, identity
from ambient.jobs.journal import Journal
from ambient.provenance import manifest, merkle, schema, source_code
from ambient.specs.stage import Stage, option
from ambient.specs.strict import from_json, plain
from ambient.storage import hashing
from ambient.storage.files import remove_temporaries, sha256_of_raw, write_json
from ambient.storage.text import printable


class Record:
    """What a stage adds to the manifests of its outputs."""

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.outside: list[dict] = []

    def external(self, name: str, path: Path, origin: str, seen: tuple[str, int] | None = None) -> str:
        """Note a file or folder from outside the tree, without its path; returns its SHA-256.

        `seen`: digest and bytes of what was read, where the reader knows them. Raises `ValueError` for a
        name that a manifest can't hold.
        """
        schema.name(path.name, f"--{name}: name of the file")
        sha, size = seen or sha256_of_raw(path, hashing.cores())
        self.outside.append({"name": name, "file": path.name, "origin": origin, "size": size,
                             "sha256": sha})
        return sha


def module(row: Stage) -> str:
    """The module of a stage, with its `main`."""
    return source_code.module_of(row.recorded)


def source(row: Stage) -> Path:
    """The file of a stage, whose docstring says what it does."""
    return source_code.path_of(module(row))


def begin(row: Stage, arguments: Sequence[str]) -> Job:
    """Parse the command line of a stage, before it loads anything heavy.

    Raw data and weights from outside are not recorded here (a stage notes them by `record.external`). A wrong
    specification or a missing input ends the process with one line and status 1.
    """
    clock = manifest.Clock(launch.size())
    parser = argparse.ArgumentParser(prog=f"python -m ambient run {row.name}", allow_abbrev=False,
                                     description=ast.get_docstring(ast.parse(source(row).read_text(encoding="utf-8"))),
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", required=True, help="specification, JSON")
    parser.add_argument("--replace", action="store_true", help="write over outputs that have no manifest")
    parser.set_defaults(noted=False)
    if source_code.states_levels(row.recorded):
        parser.add_argument("--noted", action="store_true",
                            help="take the digests that the workflow noted, and hash what they lack")
    for name in (*row.reads, *row.options, *row.outputs):
        extra = {"nargs": "*", "default": []} if name in row.many else {}
        parser.add_argument(option(name), dest=name, type=Path,
                            required=name not in row.optional | row.many, **extra)
    return Job(row, parser.parse_args(arguments), clock)


class Job:
    """One run of a stage: its specification and files, checked."""

    def __init__(self, row: Stage, given: argparse.Namespace, clock: manifest.Clock) -> None:
        self.stage, self.name, self.clock = row, row.recorded, clock
        self.files = {name: getattr(given, name) for name in (*row.reads, *row.options, *row.outputs)}
        self.outputs, self.resumes, self.replaces = tuple(row.outputs), row.resumable, given.replace
        self.options = {"noted": True} if given.noted else {}
        with self.told():
            self.spec = from_json(row.spec, given.spec)
            self.inputs = {role: as_list(self.files[role]) for role in row.reads}
            for role, path in ((role, path) for role, paths in self.inputs.items() for path in paths):
                if not path.exists():
                    raise ValueError(f"--{role}: no such file {path}")

    @contextmanager
    def told(self) -> Iterator[None]:
        """An expected error ends the process with one line (AMBIENT_TRACEBACK: with the whole trace)."""
        try:
            yield
        except (ValueError, OSError, ArithmeticError, MemoryError) as error:
            if stopping.is_on(stopping.TRACEBACK):
                raise
            raise SystemExit(f"{self.name}: error: {printable(error)}") from None
        except KeyboardInterrupt:  # in a stage without a state: there is nothing to save
            stopping.say(f"{self.name}: interrupted")
            raise SystemExit(128 + signal.SIGINT) from None

    def run(self, main: Callable) -> None:
        """Call `main(spec, record, **files)` and write a manifest for each output, or fail.

        `files` are paths by role; of a resumable stage `state` is the `ambient.jobs.state.State` of this job.
        """
        # Whatever it was started under.
        before = signal.signal(signal.SIGTERM, signal.SIG_DFL if self.resumes else self.end)
        with self.told():
            ranks = launch.size()
            if ranks > 1 and not self.stage.shared:
                raise ValueError(f"{ranks} ranks were started, and this stage runs on one")
        for name in launch.left_over():
            stopping.say(f"{self.name}: {name}={os.environ[name]} in the environment is ignored: no launcher "
                         "of ranks set it")
        with launch.departure(ranks), self.told(), ExitStack() as stack:
            stack.callback(signal.signal, signal.SIGTERM, before or signal.SIG_DFL)
            if self.resumes:
                memory.keep_freed()
                stack.enter_context(stopping.watch())
                stack.enter_context(launch.group())
            self.execute(main, stack)

    def end(self, number: int, frame: Any) -> NoReturn:
        """End a stage without a state at once, by way of what gives up its lock and removes half a file."""
        signal.signal(number, signal.SIG_IGN)  # once is enough: a second one would cut that short
        stopping.say(f"{self.name}: ended by {signal.Signals(number).name}")
        raise SystemExit(128 + number)

    def execute(self, main: Callable, stack: ExitStack) -> None:
        """Do the job between two looks at what it reads, then write its manifests, under the job's lock.

        Where another copy has made it in the meantime there is nothing to do. The state goes last: until the
        manifests are on disk it is all that a killed job can go on from.
        """
        progress.begin(self.files[self.outputs[0]])
        before = {path: guard.fingerprint(path) for path in self.read() if path != self.files.get("state")}
        recorded = launch.agreed(self.identified())
        # Of now, not of the end: a long job runs the code that was there when it began.
        made_by = manifest.code(self.name, plain(self.spec))
        writer = launch.first()  # of several ranks one records
        digests = [sha for entries in recorded.values() for _, sha, _ in entries]
        owner = identity(self.name, self.spec, digests) if self.resumes else None
        journal = Journal(self.files.get("state") if writer else None, owner and owner.name)
        targets = {role: self.files[role] for role in self.outputs}
        if writer:
            guard.writable(targets, self.read())
        if self.made(recorded, made_by, stack):
            if writer:
                progress.end()
            self.forget(owner, journal)
            return
        interrupted = journal.earlier()
        if writer:
            self.clear(targets, journal)
            manifest.refuse_early(targets, self.name, plain(self.spec), recorded, self.clock, made_by,
                                  interrupted)
        if not self.resumes:
            stack.enter_context(guard.nothing_left(targets.values()))
        journal.begin(self.clock, made_by, list(targets.values()))
        record = Record()
        state = self.state(owner) if owner else None
        with journal.departure():
            main(self.spec, record, **self.files | self.options | ({"state": state} if state else {}))
            guard.unchanged(before, recorded, record.outside)
            if writer:
                facts = record.facts | (state.remarks() if state else {})
                self.record(facts, record.outside, targets, recorded, made_by, interrupted)
                progress.end()
        self.forget(owner, journal)

    def identified(self) -> dict | None:
        """The inputs with their digests, held against their manifests, by the first rank; None on another.

        Stores may be of terabytes: each rank would read all of them. One may be given in several places.
        """
        if not launch.first():
            return None
        found = hashed.of_files(self.stage.name, "its inputs", manifest.identify, self.given())
        recorded = {role: [found[path] for path in paths] for role, paths in self.inputs.items()}
        guard.sound(recorded)
        return recorded

    def state(self, owner: Identity) -> Any:
        """What this job has done so far, on disk."""
        from ambient.jobs.state import State  # loads numpy, which a refused command line does without

        return State(self.files["state"], owner, alone=True)

    def given(self) -> list[Path]:
        """The input files, in the order of their roles."""
        return [path for paths in self.inputs.values() for path in paths]

    def outside(self) -> list[Path]:
        """Raw data and weights from outside the tree."""
        return [path for role in self.stage.options if role != "state" for path in as_list(self.files[role])]

    def read(self) -> list[Path]:
        """All that the job reads: inputs, raw data and weights from outside, its state."""
        return [path for role, given in self.files.items() if role not in self.outputs
                for path in as_list(given)]

    def made(self, recorded: dict, made_by: dict, stack: ExitStack) -> bool:
        """Wait for another copy of the job; whether its outputs are there by now, made by this very job."""
        from ambient.jobs import lock  # of the library filelock, which a refused command line does without

        first = self.files[self.outputs[0]]
        waited = launch.first() and stack.enter_context(lock.held(self.lock()))
        job = self.name, plain(self.spec), recorded, made_by, self.outside()
        whole = launch.first() and all(manifest.describes(self.files[role], *job) for role in self.outputs)
        if whole:
            stopping.say(f"{self.name}: " + (
                f"another copy of this job has just made {first}" if waited else
                f"{first} is whole and was made by this very job") + "; nothing left to do")
        return launch.agreed(whole)

    def lock(self) -> Path:
        """What one copy of this job at a time holds: beside its state, or hidden beside an output."""
        first = self.files[self.outputs[0]]
        held = self.files["state"] if self.resumes else first.with_name(f".{first.name}")
        return held.with_name(f"{held.name}.lock")

    def clear(self, targets: dict[str, Path], journal: Journal) -> None:
        """Refuse outputs that may be somebody's; remove what killed copies of this job left half written."""
        guard.owned(targets, {path.name for path in targets.values()} if self.replaces else journal.outputs())
        for path in targets.values():
            remove_temporaries(path)
            remove_temporaries(manifest.path_for(path))

    def forget(self, owner: Identity | None, journal: Journal) -> None:
        """Remove this job's state and attempts, which its manifests make superfluous, and no other job's."""
        if owner and launch.first():
            # A state may hold links to outputs, whose removal sets a time of the outputs.
            with manifest.staying_current(self.files[role] for role in self.outputs):
                owner.forget(self.files["state"])
            journal.remove()

    def record(self, facts: dict, outside: list, targets: dict[str, Path], recorded: dict, made_by: dict,
               interrupted: list) -> None:
        """Write the manifests. Raises `ValueError` where the stage left an output out."""
        for target in targets.values():
            if not target.is_file():
                raise ValueError(f"the stage did not write {target}")
        found = hashed.of_files(self.stage.name, "its outputs", manifest.digests, list(targets.values()), 1.0)
        made = {role: (path, found[path][0]) for role, path in targets.items()}
        tensors = {path: content for path, (_, content) in found.items()}
        root = None
        if self.stage.rooted:
            root = merkle.of_inputs(next(iter(targets.values())), self.given())
        manifests = {manifest.path_for(path): manifest.build(
            path, self.name, plain(self.spec), recorded, outside, facts, self.clock, made_by,
            interrupted, root, made, tensors) for path in targets.values()}
        for path, content in manifests.items():
            if self.resumes:
                stopping.patiently(write_json, path, content)
            else:
                write_json(path, content)


def as_list(value: Path | list[Path] | None) -> list[Path]:
    """No, one or several paths as a list."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
