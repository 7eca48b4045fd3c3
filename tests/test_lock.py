"""The lock file holds what pyproject.toml pins and all that those packages need, each with hashes."""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
CUDA = re.compile(r"torch|torchvision|triton|(cuda|nvidia)-.*")


def entries(text: str) -> dict[str, tuple[Requirement, int]]:
    """Of a lock file: (requirement, number of its hashes) by name."""
    bodies = re.findall(r"^([a-z0-9].*?)((?: \\\n {4}--hash=sha256:[0-9a-f]{64})*)$", text, re.MULTILINE)
    requirements = [(Requirement(line), hashes.count("--hash")) for line, hashes in bodies]
    return {requirement.name: (requirement, count) for requirement, count in requirements}


@pytest.fixture(scope="module")
def locked():
    return entries((ROOT / "requirements.lock").read_text())


@pytest.fixture(scope="module")
def pins():
    """The pins of what `make` installs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return [Requirement(line) for line in (*project["dependencies"], *extras["test"], *extras["docs"])]


def needed(pins: list[Requirement]) -> set[str]:
    """Names of all that pinned packages need on this machine, by what is installed."""
    todo = [(canonicalize_name(pin.name), frozenset(pin.extras)) for pin in pins]
    seen = set()
    while todo:
        name, extras = todo.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        for line in requires(name) or ():
            one = Requirement(line)
            if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                todo.append((canonicalize_name(one.name), frozenset(one.extras)))
    return {name for name, _ in seen}


def test_each_pin_stands_in_the_lock_file(locked, pins):
    for pin in pins:
        requirement, _ = locked[canonicalize_name(pin.name)]
        assert str(requirement.specifier) == str(pin.specifier), f"{pin}: run `make lock`"


def test_the_lock_file_holds_all_that_is_needed_and_nothing_else(locked, pins):
    here = {name for name, (one, _) in locked.items() if one.marker is None or one.marker.evaluate()}
    assert here == needed(pins)


def test_each_entry_has_one_version_and_hashes(locked):
    for requirement, hashes in locked.values():
        assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)) and hashes > 0, requirement


def test_the_lock_file_names_no_index():
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text and "--index" not in text and "--find-links" not in text


def output(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_with_an_index_for_torch_all_else_is_locked(locked):
    """The Makefile's own filter leaves everything but torch, torchvision and CUDA."""
    dry = output("make", "--always-make", "--dry-run", "setup", "TORCH_INDEX=file:///builds")
    torch, awk, rest = re.search(r"(.*--index-url .*)\n(awk .*) > .*\n(.*)", dry).groups()
    left = entries(output("bash", "-c", awk))
    assert left == {name: entry for name, entry in locked.items() if not CUDA.fullmatch(name)}
    assert "--index-url file:///builds" in torch and "--require-hashes" in rest
    versions = output("bash", "-c", f"echo {torch.partition('file:///builds ')[2]}").split()
    assert versions == [str(locked[name][0]) for name in ("torch", "torchvision")]


def test_both_containers_are_made_by_the_same_commands():
    oci = re.findall(r"^RUN (.*)", (ROOT / "containers/Containerfile").read_text(), re.MULTILINE)
    apptainer = (ROOT / "containers/ambient.def").read_text()
    section = re.search(r"^%post\n((?: .*\n)*)", apptainer, re.MULTILINE)[1]
    assert [line.strip() for line in section.splitlines() if not line.strip().startswith("#")] == oci
    base = re.search(r"^FROM (.*)", (ROOT / "containers/Containerfile").read_text(), re.MULTILINE)[1]
    assert f"\nFrom: {base}\n" in apptainer and "--require-hashes" in oci[-1]
