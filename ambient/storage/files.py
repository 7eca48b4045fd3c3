"""Files: atomic writes, digests, canonical JSON, and the one array container (safetensors).

Every artefact is written to a temporary name in its own folder, flushed to disk and renamed, so that
a reader (or the next attempt of a job) sees either the whole file or none.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ambient.storage import hashing

if TYPE_CHECKING:
    import numpy as np

CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)
DIGITS = "[0-9a-f]" * 8  # in the name of a temporary file
HELD = 2**28  # bytes: an array of a file is read at once if it has no more (`ambient.storage.arrays`)


def temporary_beside(path: Path) -> Path:
    """A new, empty file with a name of its own in the folder of `path`, which is made where it is missing.

    Not by mkstemp, which makes 0600: whom a result is for is said by the umask and the folder.
    Raises `OSError` naming the folder and what was to be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{path.suffix}")
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    except OSError as error:  # of a name that nobody asked for
        raise OSError(error.errno, f"{error.strerror}, to write {path.name}", str(path.parent)) from None
    return temporary


def remove_temporaries(path: Path) -> None:
    """Remove what was to become `path` when a process was killed. For who alone writes it at this moment."""
    for found in path.parent.glob(f".{glob.escape(path.name)}.{DIGITS}{glob.escape(path.suffix)}"):
        found.unlink(missing_ok=True)


def remove_all_temporaries(folder: Path) -> None:
    """Remove what was to become files of a folder that this process alone writes into at this moment."""
    for found in folder.glob(f".*.{DIGITS}*"):
        found.unlink(missing_ok=True)


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it replaces `path`, durably.

    Raises `OSError` naming the folder and what is left where the disk (or quota) is full, whichever
    library found out.
    """
    path = Path(path)
    temporary = temporary_beside(path)
    mode = temporary.stat().st_mode & 0o777
    try:
        yield temporary
        os.chmod(temporary, mode)  # some writers put a file of their own in its place
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except Exception as error:
        if is_full(error):
            temporary.unlink(missing_ok=True)
            raise OSError(errno.ENOSPC, f"no space left for {path.name}", str(path.parent)) from None
        if isinstance(error, OSError) and error.errno and error.filename is None:  # a limit of file sizes
            raise OSError(error.errno, f"{error.strerror}, to write {path.name}", str(path.parent)) from None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def is_full(error: Exception) -> bool:
    """Whether an error says that a disk or quota is full (safetensors says so in words only)."""
    full = (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "errno", None) in full or any(
        f"os error {number}" in str(error) for number in full)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable (and visible to other nodes of a network file system)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_raw(path: Path, threads: int = 1) -> tuple[str, int]:
    """(SHA-256, bytes) of raw data: a file, or a folder of files, so many of which are read at once.

    A folder's is the `digest` of {relative name: SHA-256} over all files below it but hidden ones
    (`.DS_Store`): names and contents count, not times, owners, or the order of a file system's listing.
    """
    if not path.is_dir():
        return sha256(path), path.stat().st_size
    files = files_below(path)
    sizes = [found.stat().st_size for found in files.values()]
    sums = hashing.of_each(hashing.sha256, list(files.values()), sizes, threads)
    return digest(dict(zip(files, sums, strict=True))), sum(sizes)


def files_below(folder: Path) -> dict[str, Path]:
    """Relative name (with /) -> path of every file below a folder but hidden ones, sorted by name.

    Links are followed. Raises `ValueError` naming a link that leads nowhere, a folder that links lead into
    twice (which a circle does too), and what is neither file nor folder.
    """
    found, waiting, seen = {}, [folder], {}
    while waiting:
        here = waiting.pop()
        key = here.stat().st_dev, here.stat().st_ino
        if key in seen:
            raise ValueError(f"{here}: leads to {seen[key]}, which is read already: take one of the two away")
        seen[key] = here
        for path in sorted(here.iterdir()):
            if path.name.startswith("."):
                continue
            if path.is_dir():
                waiting.append(path)
            elif path.is_file():
                found[path.relative_to(folder).as_posix()] = path
            elif path.is_symlink():
                raise ValueError(f"{path}: a link that leads nowhere (to {os.readlink(path)}): take it away")
            else:
                raise ValueError(f"{path}: neither a file nor a folder: take it away")
    return dict(sorted(found.items()))


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, no NaN. Equal values, equal bytes."""
    return CANONICAL.encode(value)


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def write_text(path: str | Path, text: str) -> None:
    """Write text, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write a value as readable JSON (sorted, indented), atomically."""
    write_text(path, json.dumps(value, sort_keys=True, indent=1, allow_nan=False) + "\n")


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Whatever a library raises about the content of a file becomes one line that names the file.

    For a few lines around the reading only: it would hide the place of a mistake in this program.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:300] or type(error).__name__
        text = f"{text} is not in it" if isinstance(error, KeyError) else text
        raise ValueError(text if text.startswith(str(path)) else f"{path}: {text}") from None


def read_json(path: str | Path) -> Any:
    """Read JSON. Raises `ValueError` naming the file where it is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from None


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named numpy arrays as safetensors, atomically.

    No metadata is stored: with two or more metadata keys the bytes of a safetensors file are not
    reproducible, and the manifest beside the file carries the description anyway.
    """
    from ambient.storage.arrays import write_by_rows

    write_by_rows(path, arrays)


def read_arrays(path: str | Path, names: tuple[str, ...] | None = None) -> dict[str, np.ndarray]:
    """Read named arrays (all of them by default) from a safetensors file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in names or file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path}: {error}") from None
