"""The runner of stages: the manifest that it writes, the errors that it says, the code that it records."""

import shutil
import subprocess
from pathlib import Path

import pytest

from ambient.provenance import manifest
from tests import additions, commands

ROOT = Path(__file__).parents[1]


TOY = """    Stage("toy", NoiseSpec, {"out": "toy/{run}.txt"}, lambda settings, w: NoiseSpec(0, 1),
          inputs={"data": lambda files, w: files.training_data(w["run"])}),
"""
TOY_CODE = '''"""Stage: upper case."""

from ambient.storage.files import atomic


def main(spec, record, *, data, out):
    if spec.P_mean > 1:
        raise ValueError("P_mean is too large here")
    with atomic(out) as temporary:
        temporary.write_text(data.read_text().upper())
    record.facts["letters"] = 3
'''


@pytest.fixture
def toy(tmp_path):
    """A package copy with a stage `ambient.toy` that upper-cases a file."""
    shutil.copytree(ROOT / "ambient", tmp_path / "ambient",
                    ignore=shutil.ignore_patterns("__pycache__"))
    additions.add_stage(tmp_path, "toy", TOY, TOY_CODE, "from ambient.specs import NoiseSpec")
    (tmp_path / "in.txt").write_text("abc")

    def run(spec='{"P_mean": 0, "P_std": 1}', data="in.txt"):
        return subprocess.run(commands.stage("toy", spec, data=data, out="out.txt"), cwd=tmp_path,
                              env=commands.environment(tmp_path), capture_output=True, text=True)
    return tmp_path, run


def test_a_stage_writes_its_manifest(toy):
    folder, run = toy
    assert run().returncode == 0 and (folder / "out.txt").read_text() == "ABC"
    found = manifest.read(folder / "out.txt.manifest.json")
    assert found["stage"] == "ambient.toy" and found["facts"] == {"letters": 3}
    assert found["outputs"] == {"out": {"path": "out.txt", "sha256": found["sha256"]}}
    assert found["inputs"]["data"] == [{"path": "in.txt", "sha256": manifest.sha256(folder / "in.txt")}]
    assert list(found["code"]["files"]) == ["ambient/stages/toy.py"]
    assert found["execution"]["peak_memory_bytes"] > 1_000_000


def test_a_job_is_not_charged_for_the_memory_of_what_started_it(toy):
    folder, run = toy
    large = bytearray(b"x") * 600_000_000
    assert run().returncode == 0 and large[-1]
    found = manifest.read(folder / "out.txt.manifest.json")["execution"]
    assert 1_000_000 < found["peak_memory_bytes"] < 300_000_000


@pytest.mark.parametrize(("arguments", "words"), [
    ({"spec": '{"P_mean": "0", "P_std": 1}'}, "--spec.P_mean: got '0', allowed: a number"),
    ({"spec": '{"P_mean": 0, "P_sdt": 1}'}, "unknown key 'P_sdt' (did you mean 'P_std'?)"),
    ({"spec": "{"}, "not valid JSON"), ({"data": "gone.txt"}, "--data: no such file gone.txt"),
    ({"spec": '{"P_mean": 2, "P_std": 1}'}, "P_mean is too large here")])
def test_a_stage_fails_with_one_line_and_leaves_what_was_there(toy, arguments, words):
    folder, run = toy
    run()
    before = [(folder / name).read_bytes() for name in ("out.txt", "out.txt.manifest.json")]
    done = run(**arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("ambient.toy: error: ") and words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert before == [(folder / name).read_bytes() for name in ("out.txt", "out.txt.manifest.json")]


def test_the_code_recorded_is_that_from_before_the_job(toy):
    folder, run = toy
    path = folder / "ambient/stages/toy.py"
    edit = "open(__file__, 'a').write('#')\n    with atomic"
    path.write_text(path.read_text().replace("with atomic", edit))
    before = manifest.sha256(path)
    assert run().returncode == 0 and manifest.sha256(path) != before
    found = manifest.read(folder / "out.txt.manifest.json")
    assert found["code"]["files"]["ambient/stages/toy.py"] == before
