"""Manifests and the audit: every edit is found, and named by the right word."""

import getpass
import hashlib
import json
import platform
import re
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from artefacts import made

from ambient.audit.chain import Audit
from ambient.audit.cli import main
from ambient.jobs.journal import Journal
from ambient.provenance import manifest, source_code
from ambient.storage.files import digest, read_json, write_arrays, write_json

ROOT = Path(__file__).parents[1]


@pytest.fixture
def chain(tmp_path):
    """raw -> a -> b -> c."""
    raw = {"name": "raw", "file": "raw.zip", "origin": "test", "size": 3, "sha256": "f" * 64}
    a = made(tmp_path / "r/a.bin", "ambient.prepare", spec={"sha256": "f" * 64}, external=[raw])
    b = made(tmp_path / "r/x/b.bin", inputs=[a])
    return a, b, made(tmp_path / "r/c.bin", inputs=[b])


def words(path):
    audit = Audit(path)
    audit.artefact(path)
    return {(p.path.name, p.word) for r in audit.results.values() for p in r.problems}


def test_a_whole_chain_is_closed(chain, capsys):
    assert Audit(chain[2]).artefact(chain[2]).level == 2
    assert main([str(chain[2].parent)]) == 0
    assert "3 artefacts, level 2: 3; 0 problems" in capsys.readouterr().out


@pytest.mark.parametrize("which", [0, 1, 2])
def test_any_flipped_byte_in_an_artefact_is_found_and_named(chain, which):
    content = bytearray(chain[which].read_bytes())
    for place in range(len(content)):
        flipped = bytes(content[:place]) + bytes([content[place] ^ 1]) + bytes(content[place + 1:])
        chain[which].write_bytes(flipped)
        assert (chain[which].name, "changed") in words(chain[2])


def test_edited_manifests_are_found(chain):
    path = manifest.path_for(chain[1])
    original = read_json(path)
    for key, value in (("sha256", "0" * 64), ("spec", {"a": 2}), ("spec_sha256", "0" * 64),
                       ("format", 99), ("inputs", {"data": [{"path": "../a.bin", "sha256": "0" * 64}]})):
        write_json(path, original | {key: value})
        assert words(chain[2]), key
    write_json(path, {k: v for k, v in original.items() if k != "code"})
    assert ("b.bin.manifest.json", "malformed") in words(chain[2])
    path.write_text("{")
    assert ("b.bin.manifest.json", "malformed") in words(chain[2])


def test_missing_stale_orphaned_unrecorded(chain):
    a, b, c = chain
    b.write_text("made anew\n")
    made(b, inputs=[a])
    assert words(c) == {("c.bin", "stale")}
    b.unlink()
    assert words(c) == {("b.bin", "orphaned")}
    manifest.path_for(b).unlink()
    assert words(c) == {("b.bin", "missing")}
    manifest.path_for(c).unlink()
    assert words(c) == {("c.bin", "unrecorded")}


def rewritten(path, **changes):
    """A manifest edited by someone who knows how: with every digest of its own made to fit."""
    found = {k: v for k, v in read_json(manifest.path_for(path)).items() if k != "seal"} | changes
    found["spec_sha256"] = digest(found["spec"])
    found["code"]["sha256"] = digest(found["code"]["files"])
    write_json(manifest.path_for(path), found | {"seal": digest(found)})


def test_other_code_names_the_file(chain):
    code = {"module": "ambient.corrupt", "sha256": "", "files": {"ambient/stages/corrupt.py": "0" * 64}}
    rewritten(chain[2], code=code)
    result = Audit(chain[2]).artefact(chain[2])
    assert [p.word for p in result.problems] == ["other code"] and result.level == 1
    assert "other code: ambient/stages/corrupt.py differs" in str(result.problems[0])
    assert not Audit(chain[2], allow_other_code=True).artefact(chain[2]).problems


@pytest.mark.skipif(not source_code.commit(), reason="no git repository")
def test_code_in_the_history_is_known_and_a_false_commit_is_not(chain):
    head = source_code.git("rev-parse", "HEAD").decode().strip()
    names = source_code.closure("ambient.corrupt")
    files = {name: hashlib.sha256(source_code.git("show", f"HEAD:{name}")).hexdigest() for name in names}
    code = {"module": "ambient.corrupt", "sha256": "", "commit": head, "dirty": False, "files": files}
    rewritten(chain[2], code=code)
    found = Audit(chain[2], allow_other_code=True).artefact(chain[2])  # an edit of today is no matter here
    assert not found.problems and found.level == 2
    rewritten(chain[2], code=code | {"files": files | {"ambient/storage/files.py": "0" * 64}})
    assert ("c.bin", "contradicted") in words(chain[2])
    rewritten(chain[2], code=code | {"commit": "0" * 40})
    assert ("c.bin", "unknown commit") in words(chain[2])
    rewritten(chain[2], code=code | {"dirty": True, "diff_sha256": "d" * 64})
    assert "digest of the diff dddddddddddd" in Audit(chain[2]).artefact(chain[2]).notes[0]


def test_code_that_leaves_out_a_file_or_is_of_another_stage_is_not_known(chain):
    code = read_json(manifest.path_for(chain[2]))["code"]
    assert set(code["bookkeeping"]) >= {"ambient/jobs/stage.py", "ambient/provenance/manifest.py",
                                        "ambient/specs/strict.py"}
    for change, what in (
            ({"files": {}}, "its code leaves out ambient/data/"),
            ({"files": {k: v for k, v in code["files"].items() if k != "ambient/stages/corrupt.py"}},
             "its code leaves out ambient/stages/corrupt.py"),
            ({"module": "ambient.train"}, "by the code of ambient.train"),
            ({"bookkeeping": code["bookkeeping"] | {"ambient/specs/strict.py": "0" * 64}, "dirty": True},
             "ambient/specs/strict.py, which ran too")):
        rewritten(chain[2], code=code | change)
        found = Audit(chain[2]).artefact(chain[2])
        assert found.level == 1 and any(what in str(p) for p in found.problems), change


def test_an_artefact_from_nothing_or_with_roles_that_its_stage_has_not_is_no_result(chain):
    entry = read_json(manifest.path_for(chain[2]))["inputs"]["data"][0]
    outputs = read_json(manifest.path_for(chain[2]))["outputs"]
    for changes, what in (
            ({"inputs": {}, "facts": {"raw_checksum_verified": True}}, "made without 'data'"),
            ({"inputs": {"data": [entry], "out": [entry]}}, "read by its job as 'out'"),
            ({"inputs": {"data": [entry, entry]}}, "2 files as 'data'"),
            ({"outputs": outputs | {"state": outputs["out"]}}, "written by its job as 'state'"),
            ({"outputs": {"out": outputs["out"] | {"path": "b.bin"}}}, "its job made other files")):
        made(chain[2], inputs=[chain[1]])
        rewritten(chain[2], **changes)
        found = Audit(chain[2]).artefact(chain[2])
        assert found.level == 1 and any(what in str(p) for p in found.problems), what
    made(chain[2], inputs=[chain[1]])
    path = manifest.path_for(chain[2])
    write_json(path, {k: v for k, v in read_json(path).items() if k != "outputs"})
    rewritten(chain[2])
    assert words(chain[2]) == {("c.bin", "incomplete")}


def test_a_manifest_rewritten_with_all_its_digests_is_found_by_what_was_made_from_it(chain):
    for key, value in (("spec", {"a": 2}), ("facts", {"images": 5}), ("artefact", "b.bin")):
        rewritten(chain[1], **{key: value})
    assert words(chain[2]) == {("b.bin.manifest.json", "rewritten")}


def test_unpinned_raw_data_keep_a_result_from_being_closed(tmp_path):
    raw = {"name": "raw", "file": "mine.zip", "origin": "test", "size": 3, "sha256": "e" * 64}
    a = made(tmp_path / "a.bin", "ambient.prepare", spec={"sha256": None}, external=[raw])
    found = Audit(a).artefact(a)
    assert found.level == 1 and "unpinned: mine.zip" in str(found.problems[0])
    made(a, "ambient.prepare", external=[raw], facts={"raw_checksum_verified": True})
    assert Audit(a).artefact(a).level == 2
    b = made(tmp_path / "b.bin", "ambient.detector", inputs=[a], external=[raw], spec={"sha256": None})
    assert Audit(b).artefact(b).level == 1  # beside recorded inputs, too


def test_a_folder_audit_finds_files_without_manifest_and_survives_a_move(chain, tmp_path, capsys):
    shutil.copytree(tmp_path / "r", tmp_path / "moved")
    assert main([str(tmp_path / "moved")]) == 0
    (tmp_path / "moved/extra.csv").write_text("1\n")
    assert main([str(tmp_path / "moved"), "--json"]) == 1
    out = capsys.readouterr().out
    found = json.loads(out[out.index("{"):])
    assert [(p["path"].split("/")[-1], p["word"]) for p in found["problems"]] == [
        ("extra.csv", "unrecorded")]


def test_no_such_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="gone.csv: no such file or folder"):
        main([str(tmp_path / "gone.csv")])


def test_manifests_hold_no_person_machine_or_place(chain):
    for path in chain:
        text = manifest.path_for(path).read_text()
        for word in (str(path.parent), platform.node(), f"/{getpass.getuser()}/"):
            assert word not in text or len(word) < 3
        assert not re.search(r'"/', text)


def test_content_digest_ignores_the_container(tmp_path):
    from safetensors.numpy import save_file

    a, b = np.arange(6.0).reshape(2, 3), np.ones(4, np.int32)
    write_arrays(tmp_path / "1.safetensors", {"a": a, "b": b})
    save_file({"b": b, "a": a}, tmp_path / "2.safetensors", metadata={"x": "y"})
    save_file({"b": b, "a": a.reshape(3, 2)}, tmp_path / "3.safetensors")
    one, two, three = (manifest.content_sha256(tmp_path / f"{i}.safetensors") for i in (1, 2, 3))
    assert one == two != three


def test_closure_follows_lazy_imports_and_leaves_bookkeeping_out():
    found = {Path(name).name for name in source_code.closure("ambient.sample")}
    assert {"sample.py", "sampler.py", "unet.py", "denoiser.py", "hardware.py"} <= found
    assert not found & {"train.py", "stage.py", "manifest.py", "resolve.py", "__init__.py"}
    assert "ambient/settings/layers.py" not in source_code.closure("ambient.sample")
    rooms = {Path(name).parent.name for name in source_code.closure("ambient.train")}
    assert not rooms & {"specs", "settings"}
    assert "ambient/diffusion/sampler.py" not in source_code.closure("ambient.train")
    assert "ambient/data/readers.py" in source_code.closure("ambient.prepare")
    with pytest.raises(ValueError, match="ambient.gone"):
        source_code.closure("ambient.gone")


def test_audit_needs_neither_torch_nor_snakemake_nor_numpy(chain):
    code = ("import sys; from ambient.audit.cli import main; status = main([sys.argv[1]]); "
            "print(sorted({'torch', 'snakemake', 'pandas', 'numpy', 'yaml'} & set(sys.modules)), status)")
    done = subprocess.run([sys.executable, "-c", code, str(chain[2].parent)], cwd=ROOT, text=True,
                          capture_output=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] 0"


def test_any_flipped_byte_in_a_manifest_is_found(chain):
    path = manifest.path_for(chain[1])
    content = path.read_bytes()
    for place in range(0, len(content), 29):  # shorter than any digest
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1:])
        found = words(chain[2])
        assert found and all(name.startswith("b.bin") for name, _ in found), place
    path.write_bytes(content)
    assert not words(chain[2])


def test_a_cycle_is_found(chain):
    path = manifest.path_for(chain[1])
    made(chain[1], inputs=[chain[1]])
    assert ("b.bin.manifest.json", "malformed") in words(chain[2])
    assert main([str(path)]) == 1


@pytest.mark.parametrize("entry", [
    5, {"path": 5, "sha256": "0"}, {"path": "/etc/x", "sha256": "0"}])
def test_bad_inputs_are_malformed_and_no_crash(chain, entry):
    path = manifest.path_for(chain[1])
    found = read_json(path)
    found["inputs"] = {"data": [entry]}
    found.pop("seal")
    write_json(path, found | {"seal": digest(found)})
    assert words(chain[2]) == {("b.bin.manifest.json", "malformed")}


@pytest.mark.parametrize("spec", [{"old": 1}, {"name": "t", "scale": "s", "rows": [],
                                               "training_seeds": [0]}])
def test_a_table_that_cannot_be_rebuilt_is_named(chain, spec):
    table = made(chain[0].parent / "t.csv", "ambient.tables", spec=spec)
    rewritten(table, inputs={"metrics": read_json(manifest.path_for(chain[2]))["inputs"]["data"]})
    assert words(table) == {("t.csv", "differs")}


def test_each_file_is_hashed_once(chain, monkeypatch):
    import ambient.audit.chain as module

    seen = []
    monkeypatch.setattr(module, "sha256", lambda p: seen.append(Path(p).resolve()) or manifest.sha256(p))
    deep = made(chain[0].parent / "p/q/d.bin", "ambient.combine", inputs=[chain[0], chain[1]])
    assert main([str(deep), str(chain[2]), str(chain[0].parent)]) == 0
    assert len(seen) == len(set(seen))


def test_commit_survives_odd_bytes_and_symlinks(tmp_path, monkeypatch):
    repo = tmp_path / "repo"
    repo.mkdir()

    def git(*words):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=repo,
                       check=True, capture_output=True)

    git("init")
    (repo / "x").write_text("a")
    git("add", "x")
    git("commit", "-m", "x")
    (tmp_path / "link").symlink_to(repo)
    monkeypatch.setattr(source_code, "ROOT", tmp_path / "link")
    assert source_code.commit()["dirty"] is False
    (repo / "x").write_bytes(b"caf\xe9\n")
    assert source_code.commit()["dirty"] is True and len(source_code.commit()["diff_sha256"]) == 64


def test_interrupted_attempts_are_kept(tmp_path, monkeypatch):
    state, code = tmp_path / "state/train", {"commit": "c" * 40}
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    killed = state.with_name(".train.attempts.jsonl.0123abcd.jsonl")  # while it noted an attempt
    killed.parent.mkdir()
    killed.touch()
    Journal(state, ["a"]).begin(manifest.Clock(), code)
    assert not killed.exists()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    other, journal = Journal(state, ["other"]), Journal(state, ["a"])
    other.begin(manifest.Clock(), code, [Path("x.bin")])
    (earlier,) = journal.earlier()
    assert earlier["scheduler"] == {"job_id": "17"} and earlier["commit"] == "c" * 40
    assert journal.outputs() == set() and other.outputs() == {"x.bin"}
    path = tmp_path / "x.bin"
    path.write_text("x")
    found = manifest.build(path, "ambient.train", {}, {}, [], {}, manifest.Clock(), interrupted=[earlier])
    assert found["execution"]["interrupted"] == [earlier]
    assert found["execution"]["scheduler"] == {"job_id": "17", "restarts": "1"}
    journal.remove()
    assert journal.earlier() == [] and len(other.earlier()) == 1
    other.remove()
    assert list((tmp_path / "state").iterdir()) == []


def test_a_job_holds_a_gpu_for_each_of_its_ranks(monkeypatch):
    """Also those of other nodes, which the rank that writes can't see; and not all of a workstation's."""
    gpus = SimpleNamespace(is_initialized=lambda: True, device_count=lambda: 2,
                           max_memory_allocated=lambda number: 5)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=gpus))
    for ranks in (1, 16):
        clock = manifest.Clock(ranks)
        clock.started -= timedelta(seconds=100)
        found = clock.execution()
        assert found["gpu_sec"] == pytest.approx(ranks * found["wall_sec"]) and found["wall_sec"] >= 100
