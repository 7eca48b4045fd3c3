"""An export on the Hugging Face hub: exactly its files, and only once they may be seen by others."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import yaml

from ambient.commands.card import FILL_IN
from ambient.storage.files import read_json, sha256
from ambient.storage.text import first_line

LOGIN = "log in with: hf auth login (or set HF_TOKEN)"


def require_hub() -> None:
    """Raise `ValueError` where nothing could be sent: without the library, or without a token."""
    if find_spec("huggingface_hub") is None:
        raise ValueError("--push needs the package huggingface_hub: in the clone, pip install --editable "
                         "'.[hub]'; nothing was written or sent")
    from huggingface_hub import get_token

    if get_token() is None:
        raise ValueError(f"--push needs a token of the hub: {LOGIN}; nothing was written or sent")


def require_licence(card: Path) -> None:
    """Raise `ValueError` for a model card without a licence, or with a head that is no YAML."""
    text = card.read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), 1):
        if FILL_IN in line:
            raise ValueError(f"{card}, line {number}: still has {FILL_IN}: write the licence in its place, "
                             "here and wherever else it stands, then push again")
    try:
        head = yaml.safe_load(text.split("---\n")[1])
    except (IndexError, yaml.YAMLError) as error:
        raise ValueError(f"{card}: its head is no YAML between two lines of --- "
                         f"({first_line(error)})") from None
    if not isinstance(head, Mapping) or not head.get("license"):
        raise ValueError(f"{card}: its head has no key `license`")


def files_of(folder: Path, origin: str, editable: str) -> list[str]:
    """The names of an export's files, sorted: `origin` lists them with their digests.

    `editable` may differ from what was written. Raises `ValueError` for a file more, less or changed.
    """
    written = read_json(folder / origin).get("files")
    if not isinstance(written, Mapping):
        raise ValueError(f"{folder / origin}: does not list the files of the export: remove the folder and "
                         "export again")
    names = sorted([*written, origin])
    there = sorted(path.name for path in folder.iterdir())
    if more := [name for name in there if name not in names]:
        raise ValueError(f"{folder}: {more[0]} is no file of the export: take it out of the folder")
    for name in names:
        path = folder / name
        if name not in there or path.is_symlink() or not path.is_file():
            raise ValueError(f"{path}: missing, or no plain file: remove the folder and export again")
        if name not in (origin, editable) and sha256(path) != written[name]:
            raise ValueError(f"{path}: not what was exported: remove the folder and export again")
    return names


def require_audited(paths: Sequence[Path]) -> None:
    """Raise `ValueError` where the audit finds a broken link behind an artefact that the card states.

    It runs as a process of its own: the audit judges all of this package, which never imports it. Artefacts
    of earlier code or settings pass, since the export has their manifest.
    """
    line = [sys.executable, "-m", "ambient", "audit", "--allow-other-code", "--allow-other-settings",
            *map(str, paths)]
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"the audit finds a broken link behind what the card says; see: python -m "
                         f"ambient audit {' '.join(map(str, paths))}")


def push(folder: Path, names: Iterable[str], repository: str) -> str:
    """Send the files of a folder in one commit, to a private repository where it is new; returns its address.

    Raises `ValueError` with what the hub, or the way to it, has against it.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        address = api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=str(folder), allow_patterns=list(names),
                          commit_message="Exported by ambient")
    except Exception as error:  # whatever the library and the network raise
        said = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"--push {repository}: the hub did not take it: {said}") from None
    return str(address)
