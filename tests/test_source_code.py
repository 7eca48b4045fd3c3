"""What counts as the same code, and where its commit is read."""

import subprocess
from pathlib import Path

import pytest

from ambient.provenance import parts, source_code

ROOT = Path(__file__).parents[1]


def test_code_means_what_its_statements_do():
    def meaning(text, name="x.py"):
        return parts.meaning(name, text.encode())

    plain = meaning('def f(x):\n    return x + 1\n')
    assert plain == meaning('"""Words."""\n\n\ndef f(x):  # a comment\n    """What it does."""\n'
                            '    return (x\n            + 1)\n')
    assert plain != meaning('def f(x):\n    return x + 2\n')
    assert meaning('x = "a"\n') != meaning('x = "b"\n')
    assert meaning('def f():\n    "only words"\n') == meaning('def f():\n    "others"\n')
    both = 'def f(x):\n    return x\n\n\ndef g(x):\n    return {}\n\n\nTABLE = {{"f": f, "g": g}}\n'
    assert meaning(both.format(1), "x.py:f") == meaning(both.format(2), "x.py:f")
    assert meaning(both.format(1), "x.py:g") != meaning(both.format(2), "x.py:g")


def test_a_repository_of_another_owner_is_read(monkeypatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    alone = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    if "dubious" not in alone.stderr:
        pytest.skip("no git repository here, or a git that asks no owner")
    assert len(source_code.commit()["commit"]) == 40
