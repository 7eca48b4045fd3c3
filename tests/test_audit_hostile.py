"""The audit of manifests that are no manifests, and of trees that lead outside."""

import json
import os
import shutil

import pytest
from results_tree import problems, refit

from ambient.audit import cli, place
from ambient.audit.chain import Audit
from ambient.provenance import manifest
from ambient.storage.files import digest, read_json, sha256


def test_mixed_scales_and_paths_that_leave_the_tree(tree):
    other = shutil.copytree(tree, tree.with_name("other"))
    secret = tree.parents[1] / "secret"
    secret.write_text("x")
    path = tree / "runs/ambient/seed-0/samples.safetensors"
    found = read_json(manifest.path_for(path))
    for target, words in ((os.path.relpath(other / "runs/ambient/seed-0/denoiser.safetensors", path.parent),
                           ("samples.safetensors", "mixed scales")),
                          ("../" * 5 + "secret", ("secret", "outside")),
                          ("../" * 40 + "etc/passwd", ("passwd", "outside"))):
        entry = found["inputs"]["denoiser"][0] | {"path": target}
        refit(path, inputs={"denoiser": [entry]})
        assert words in problems(path)
    (tree / "runs/ambient/seed-0/link.bin").symlink_to(secret)
    assert ("link.bin", "outside") in problems(tree)


def test_nothing_outside_the_tree_is_opened(tree, monkeypatch):
    outside = tree.parents[1] / "secret"
    outside.write_text("x")
    os.remove(tree / "runs/ambient/seed-0/denoiser.safetensors")
    (tree / "runs/ambient/seed-0/denoiser.safetensors").symlink_to(outside)
    (tree / "data/folder").symlink_to(outside.parent)
    opened = []
    monkeypatch.setattr("ambient.audit.chain.sha256", lambda p: opened.append(str(p)) or sha256(p))
    assert ("denoiser.safetensors", "outside") in problems(tree) and ("folder", "outside") in problems(tree)
    assert opened and all(place.within(os.path.realpath(p), str(tree.parent.resolve())) for p in opened)


@pytest.mark.parametrize("content", [
    b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b"1" * 10_000,
    b'{"size": 1e999}', b'{"format": NaN}'])
def test_malformed_manifests_are_one_line(tree, content, capsys):
    record = manifest.path_for(tree / "runs/ambient/seed-0/samples.safetensors")
    record.write_bytes(content)
    assert cli.main([str(tree)]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if ": malformed: " in line]
    assert len(lines) == 1 and "samples.safetensors.manifest.json" in lines[0]


@pytest.mark.parametrize(("key", "value", "words"), [
    ("size", 2**63, "size: got 9223372036854775808"), ("size", 10**4000, "size: got 1000"),
    ("size", -1, "size: got -1"), ("size", True, "size: got True"), ("artefact", "../x", "artefact: got"),
    ("sha256", "F" * 64, "sha256: got"), ("extra", 1, "unknown key 'extra'"),
    ("facts", {"a": "/home/someone/x"}, "facts.a: got '/home/someone/x', allowed: no absolute path"),
    ("facts", {"a": [1e308 * 10]}, "facts.a[0]: got inf"), ("stage", None, "stage: got None"),
    ("inputs", {"data": [{"path": "x"}]}, "inputs.data[0].sha256 is missing"),
    ("inputs", {"data": [{"path": "/etc/passwd", "sha256": "0" * 64}]}, "no absolute path"),
    ("external", [{"file": "a/b", "sha256": "0" * 64}], "external[0].file"),
    ("code", {"module": "m", "files": {"a/x.py": "zz"}, "sha256": "0" * 64}, "code.files.a/x.py")])
def test_the_schema_names_the_place(tree, key, value, words):
    path = manifest.path_for(tree / "t.csv")
    path.write_text(json.dumps(read_json(path) | {key: value}))
    with pytest.raises(ValueError) as stop:
        manifest.read(path)
    assert words in str(stop.value) and len(str(stop.value)) < 400 and "\n" not in str(stop.value)


def test_a_manifest_has_one_text(tree):
    path = manifest.path_for(tree / "t.csv")
    text = path.read_text()
    for other in (text.replace(" ", "\t", 1), text + " ", text.replace("{", "{ ", 1),
                  text.replace('"format": 1', '"format": 1,\n "format": 1')):
        path.write_text(other)
        with pytest.raises(ValueError, match="not written as"):
            manifest.read(path)


def test_a_chain_as_long_as_it_likes_is_walked(tmp_path):
    folder = tmp_path / "results/x/data"
    folder.mkdir(parents=True)
    template, codes = manifest.environment(), [manifest.code(f"ambient.{s}") for s in ("prepare", "corrupt")]
    raw = {"file": "raw.zip", "sha256": "f" * 64}
    seal, last, count = None, None, 3000
    for i in range(count):
        path = folder / f"{i}.bin"
        path.write_text(str(i))
        entry = {"path": last.name, "sha256": sha256(last), "seal": seal} if last else None
        code = codes[i > 0]
        found = {"format": 1, "stage": code["module"], "artefact": path.name, "sha256": sha256(path),
                 "size": 1, "inputs": {"data": [entry]} if entry else {}, "external": [] if entry else [raw],
                 "outputs": {"out": {"path": path.name, "sha256": sha256(path)}}, "spec": {},
                 "spec_sha256": digest({}), "code": code, "environment": template,
                 "execution": {"started": "a", "ended": "b", "wall_sec": 0, "cpu_sec": 0,
                               "peak_memory_bytes": 0},
                 "facts": {} if entry else {"raw_checksum_verified": True}}
        seal, last = digest(found), path
        manifest.path_for(path).write_text(manifest.json_text(found | {"seal": seal}))
    found = Audit(last)
    assert found.artefact(last).level == 2 and len(found.results) == count
