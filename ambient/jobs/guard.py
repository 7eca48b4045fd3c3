"""What a job reads and writes, judged before compute is spent and once more before its manifests are written.

It never uses an input that is not what its own manifest says, never writes over what it reads or what no job
of this program made, and never records an input that changed under it. Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ambient.provenance import manifest
from ambient.storage.files import files_below, sha256_of_raw, temporary_beside
from ambient.storage.hashing import cores

Recorded = Mapping[str, Sequence[tuple[Path, str, str | None]]]


def fingerprint(path: Path) -> dict[str, tuple[int, int]]:
    """Size and time of a file, or of every file below a folder: cheap signs of a change while it was read."""
    below = files_below(path) if path.is_dir() else {"": path}
    abouts = {name: one.stat() for name, one in below.items()}
    return {name: (about.st_size, about.st_mtime_ns) for name, about in abouts.items()}


def unchanged(before: Mapping[Path, dict], recorded: Recorded, outside: Iterable[Mapping]) -> None:
    """Raise `ValueError` naming what was read and is not any more what it was.

    `before` are the fingerprints of all that the job reads, `outside` the records of raw data among that.
    Where a time alone changed (a copy, a touch), the bytes are hashed again, and they count.
    """
    digests = {path: {value} for entries in recorded.values() for path, value, _ in entries}
    for path, seen in before.items():
        known = digests.get(path, {record["sha256"] for record in outside})
        if fingerprint(path) != seen and sha256_of_raw(path, cores())[0] not in known:
            raise ValueError(f"{path} changed while it was read: run the job again (a state that it has "
                             "saved belongs to the data as they were, and is kept)")


def sound(recorded: Recorded) -> None:
    """Raise `ValueError` naming an input whose bytes are not those of its own manifest."""
    for role, entries in recorded.items():
        for path, found, seal in entries:
            if seal is None:
                continue
            said = manifest.read(manifest.path_for(path))["sha256"]
            if said != found:
                raise ValueError(
                    f"--{role} {path}: its sha256 is {found}, its manifest says {said}: it was damaged or "
                    "replaced after it was made. Delete it and have the workflow make it again; or, where "
                    "the change is meant, delete its manifest")


def writable(outputs: Mapping[str, Path], read: Iterable[Path]) -> None:
    """Raise `ValueError` or `OSError` for an output that can't be written, or is what the job reads."""
    taken = {path: f"{path}, which the job reads" for path in read}
    taken |= {manifest.path_for(path): f"the manifest of {path}" for path in taken}
    for role, path in outputs.items():
        over = [what for other, what in taken.items() if leads_to(path, other)]
        if over:
            raise ValueError(f"--{role} {path}: would be written over {over[0]}; give another path")
        if path.name.endswith(manifest.SUFFIX):
            raise ValueError(f"--{role} {path}: this ending is a manifest's; give another name")
        if path.exists() and not path.is_file():
            raise ValueError(f"--{role} {path}: is there, and no ordinary file; give another path")
        # A read-only folder, a name that is too long. Another copy, which works, may take it for a left one.
        temporary_beside(manifest.path_for(path)).unlink(missing_ok=True)
        taken[path] = f"--{role} as well"


def owned(outputs: Mapping[str, Path], own: Iterable[str]) -> None:
    """Raise `ValueError` for an output that is there and has no manifest: it may be somebody's.

    `own` names those that are this job's all the same: an earlier attempt was killed before it wrote that.
    """
    for role, path in outputs.items():
        if path.exists() and not manifest.path_for(path).exists() and path.name not in own:
            raise ValueError(f"--{role} {path}: is there and has no manifest, so that nothing tells whether "
                             "this program made it; move or delete it, or give another path")


@contextmanager
def nothing_left(outputs: Iterable[Path]) -> Iterator[None]:
    """Where a job fails, take away what it wrote without a manifest: nobody could tell whose it is."""
    new = [path for path in outputs if not path.exists()]
    try:
        yield
    except BaseException:
        for path in new:
            if not manifest.path_for(path).exists():
                path.unlink(missing_ok=True)
        raise


def leads_to(path: Path, other: Path) -> bool:
    """Whether writing `path` changes `other`, a file or folder. (A hard link is replaced, not written to.)"""
    found, wanted = path.resolve(), other.resolve()
    if path.exists() and other.exists() and path.samefile(other) and path.stat().st_nlink == 1:
        return True
    return found == wanted or wanted in found.parents
