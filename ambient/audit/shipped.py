"""The files of the repository that go with results: the ones that are meant, not all but exceptions.

In a git repository: those that are tracked, as they are at the commit that made the tables. What is untracked
or ignored (a site's account, local paths, an editor's copies) stays out whatever its name. Without a
repository: the sources that the manifests name, the workflow, and the configuration of their scales.
"""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from ambient.provenance import source_code
from ambient.settings.files import NAME, files_of
from ambient.specs.strict import SpecError
from ambient.storage.regular import FILE, kind, read
from ambient.storage.text import skipped

FIXED = ("Snakefile", "environment.yml", "pyproject.toml", "LICENSE", "README.md", "config/config.yaml")
PATTERNS = ("workflow/rules/*.smk", "workflow/report/*.rst", "workflow/profiles/*/config.yaml")


def unpack(manifests: Iterable[Mapping], folder: Path) -> None:
    """Write the files into an empty folder, each at its place in the repository."""
    found = list(manifests)
    commit = commit_of(found)
    if commit:
        archive = io.BytesIO(source_code.git("archive", "--format=tar", commit))
        with tarfile.open(fileobj=archive) as tar:
            members = [member for member in tar if member.isfile()]  # a link could lead anywhere
            tar.extractall(folder, members, filter="data")
        return
    for name in named(found):
        path = source_code.ROOT / name
        if kind(path, follow=False) == FILE:
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(read(path))


def commit_of(manifests: list[Mapping]) -> str | None:
    """The commit of a table, where the repository has it, else the present one; None without a repository."""
    here = source_code.commit().get("commit")
    made_by = [found["code"] for found in manifests if found["stage"] == "ambient.tables"]
    commit = next((code["commit"] for code in made_by if "commit" in code), here)
    if here is None or commit == here:
        chosen = here
    else:
        try:
            source_code.git("cat-file", "-e", f"{commit}^{{commit}}")
            chosen = commit
        except subprocess.CalledProcessError:
            skipped(f"code of commit {commit[:12]}, which is not here: that of {here[:12]} goes along")
            chosen = here
    if any(code.get("dirty") for code in made_by) and chosen:
        skipped(f"uncommitted changes that a table was made with: the code of {chosen[:12]} goes along")
    return chosen


def named(manifests: list[Mapping]) -> list[str]:
    """Relative paths of the files that manifests need, where no repository says what belongs to it."""
    modules = {found["code"]["module"] for found in manifests}
    found = set(FIXED) | {name for module in modules if source_code.path_of(module)
                          for name in (*source_code.closure(module), *source_code.bookkeeping(module))}
    for pattern in PATTERNS:
        found |= {path.relative_to(source_code.ROOT).as_posix() for path in source_code.ROOT.glob(pattern)}
    scales = {made["spec"].get("scale") for made in manifests if made["stage"] == "ambient.tables"}
    for scale in scales or {None}:
        found |= set(scale_files(scale))
    return sorted(found)


def scale_files(scale: object) -> list[str]:
    """The files that a scale is made of: of all scales, of each that it extends, its own."""
    known = isinstance(scale, str) and re.fullmatch(NAME, scale)
    try:
        paths = files_of(source_code.ROOT / "config", scale if known else None)
    except SpecError:  # a scale that is not here any more, or can't be read
        paths = files_of(source_code.ROOT / "config", None)
    return [path.relative_to(source_code.ROOT).as_posix() for path in paths]
