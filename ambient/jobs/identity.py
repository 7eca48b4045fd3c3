"""What makes two attempts attempts at the same job: stage, specification, inputs, and what its code means.

A state is used by the job of its own identity alone. Comments, docstrings and the layout of source files
don't count: they change no result, and a training of days must not begin anew for them. The manifest holds
the digests of the files as they are.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ambient.provenance import source_code
from ambient.specs.strict import plain
from ambient.storage.files import digest


@dataclass(frozen=True)
class Identity:
    """`job` is a digest of stage, specification and inputs; `code` has one of each source file's meaning.

    `code_sha256` is the digest of the source files' bytes, as the manifest gives it.
    """

    job: str
    code: Mapping[str, str]
    code_sha256: str = ""

    @property
    def name(self) -> str:
        """The name of the folder of its state: 16 hexadecimal digits."""
        return digest({"job": self.job, "code": dict(self.code)})[:16]

    def forget(self, root: Path) -> None:
        """Remove this job's state below `root`, and no other's; `root` too where nothing else is in it.

        A `root` that can't be removed stays: it may be the root of a file system of its own.
        """
        shutil.rmtree(root / self.name, ignore_errors=True)
        with suppress(OSError):
            root.rmdir()


def identity(module: str, spec: object, inputs: Iterable[str]) -> Identity:
    """The identity of a job whose stage is `module`, with the code as it is now; `inputs`: their SHA-256."""
    told = plain(spec)
    job = digest({"stage": module, "spec": told, "inputs": list(inputs)})
    return Identity(job, source_code.meanings(module, told), digest(source_code.digests(module, told)))
