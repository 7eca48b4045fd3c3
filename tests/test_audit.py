"""The audit of a whole tree: levels, tampering, hostile input, signature, pruning, comparison, export."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import results_tree

from ambient import compare, crate, manifest, merkle, prune, sources
from ambient.attempts import Journal
from ambient.audit import cli, place, rerun
from ambient.audit.chain import Audit, artefacts_in, shown
from ambient.files import digest, read_arrays, read_json, sha256, write_arrays, write_json

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("o") / "results/tiny"
    results_tree.make(folder)
    return folder


@pytest.fixture
def tree(original, tmp_path):
    return Path(shutil.copytree(original, tmp_path / "results/tiny"))


def audit(path):
    found = Audit(path)
    for one in artefacts_in(path) if path.is_dir() else [path]:
        found.artefact(one)
    return found


def problems(path):
    return {(p.path.name, p.word) for r in audit(path).results.values() for p in r.problems}


def refit(path, **changes):
    """Rewrite a manifest as one who knows how: every digest of its own made to fit."""
    found = read_json(manifest.path_for(path)) | changes
    found.pop("seal")
    found["sha256"], found["size"] = sha256(path), path.stat().st_size
    for entry in found["outputs"].values():
        if entry["path"] == path.name:
            entry["sha256"] = found["sha256"]
    found["spec_sha256"] = digest(found["spec"])
    if "content_sha256" in found:
        found["content_sha256"] = manifest.content_sha256(path)
    write_json(manifest.path_for(path), found | {"seal": digest(found)})
    for role, entry in found["outputs"].items():  # the other outputs' manifests name it too
        other = manifest.path_for(path.with_name(entry["path"]))
        if entry["path"] != path.name and other.exists():
            fellow = read_json(other)
            fellow["outputs"] = found["outputs"] | {role: fellow["outputs"][role]}
            fellow.pop("seal")
            write_json(other, fellow | {"seal": digest(fellow)})


def test_tables_figures_metrics_and_summaries_are_derived_again(original):
    found = audit(original)
    levels = {}
    for key, result in found.results.items():
        assert not result.problems
        levels.setdefault(result.stage, {}).setdefault(key.suffix, set()).add(result.level)
    assert levels["tables"] == levels["summary"] == {".csv": {3}}
    assert levels["figures"] == {".png": {3}, ".pdf": {3}}
    assert levels["evaluate"] == {".json": {3}, ".safetensors": {2}}
    assert levels["annotate"] == {".json": {3}, ".safetensors": {2}}
    assert levels["train"] == {".safetensors": {2}, ".jsonl": {2}}
    assert levels["prepare"] == {".safetensors": {2}}


def test_a_table_alone_reaches_level_3_too(original):
    assert audit(original / "t.csv").results[original / "t.csv"].level == 3


@pytest.mark.parametrize("change", ["copied", "moved", "read-only", "CRLF"])
def test_an_untouched_tree_never_goes_red(tree, change):
    if change == "copied":
        for path in tree.rglob("*"):
            os.utime(path, (1, 1))
    elif change == "moved":
        tree = tree.rename(tree.parents[1] / "elsewhere")
    elif change == "read-only":
        for path in tree.rglob("*"):
            path.chmod(0o555 if path.is_dir() else 0o444)
    else:
        for path in tree.rglob("*"):
            if path.suffix in (".csv", ".json", ".jsonl"):
                path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    found = audit(tree)
    assert not problems(tree) and found.results[tree / "t.csv"].level == 3


# --- tampering ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deed", ["flip", "swap", "cell", "delete", "manifest", "code"])
def test_tampering_is_named(tree, tmp_path, monkeypatch, deed):
    from benchmarks.tamper import run

    code = tmp_path / "code"
    shutil.copytree(ROOT / "ambient", code / "ambient", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sources, "ROOT", code)
    monkeypatch.setattr(sources, "PACKAGE", code / "ambient")
    assert not problems(tree)
    assert run(tree, {deed: 4}, seed=1, say=lambda line: None) == 0


def test_an_edited_cell_with_its_manifest_is_named_by_row_and_column(tree):
    table = tree / "t.csv"
    lines = table.read_text().splitlines()
    cells = lines[2].split(",")
    cells[lines[0].split(",").index("value")] = "1.5"
    table.write_text("\n".join([*lines[:2], ",".join(cells), *lines[3:]]) + "\n")
    refit(table)
    (result,) = [r for r in audit(table).results.values() if r.problems]
    assert result.problems[0].word == "differs" and "row 2, value: 1.5 for" in result.problems[0].detail


def test_an_edited_score_with_all_manifests_is_found_from_the_moments(tree):
    path = tree / "runs/ambient/seed-0/metrics.json"
    found = read_json(path)
    found["scores"][0]["value"] += 0.01
    write_json(path, found)
    refit(path)
    assert ("metrics.json", "differs") in problems(path)
    found["scores"][0]["value"] -= 0.01
    write_json(path, found)
    refit(path)
    assert not problems(path)
    for change in ({"num_samples": 41}, {"reference_images": 61}, {"metric": "fid"},
                   {"scores": found["scores"][:3]}, {"scores": found["scores"][:2]}, {"scores": []}):
        write_json(path, found | change)
        refit(path)
        assert ("metrics.json", "differs") in problems(path)


def test_an_edited_summary_with_all_manifests_is_found_from_the_annotations(tree):
    path = tree / "annotations/study/blur/ambient.json"
    write_json(path, read_json(path) | {"sigma_min_mean": 1.0})
    refit(path)
    assert ("ambient.json", "differs") in problems(path)


def test_the_summary_says_the_level_of_its_table_and_an_edited_number_is_found(tree):
    path = tree / "summary.csv"
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert len(rows) == 6 and {row["provenance_level"] for row in rows} == {"3"}
    path.write_text(path.read_text().replace(rows[1]["ours"], "1.5", 1))
    refit(path)
    (result,) = [r for r in audit(path).results.values() if r.problems]
    assert result.problems[0].word == "differs" and "row 2, ours: 1.5 for" in result.problems[0].detail


def test_a_figure_of_other_data_is_found(tree):
    shutil.copy(tree / "t-grid.png", tree / "t.png")
    refit(tree / "t.png")
    assert ("t.png", "differs") in problems(tree / "t.png")


def test_a_file_made_anew_makes_what_came_from_it_stale(tree):
    path = tree / "runs/ambient/seed-0/denoiser.safetensors"
    write_arrays(path, {"256/w": np.zeros((4, 4), np.float32)})
    refit(path)
    assert problems(tree / "t.csv") == {("samples.safetensors", "stale")}


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


# --- hostile manifests ----------------------------------------------------------------------------------


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
    folder, code = tmp_path / "results/x/data", {"module": "m", "files": {}, "sha256": digest({})}
    folder.mkdir(parents=True)
    template = manifest.environment()
    seal, last, count = None, None, 3000
    for i in range(count):
        path = folder / f"{i}.bin"
        path.write_text(str(i))
        entry = {"path": last.name, "sha256": sha256(last), "seal": seal} if last else None
        found = {"format": 1, "stage": "ambient.corrupt", "artefact": path.name, "sha256": sha256(path),
                 "size": 1, "inputs": {"data": [entry]} if entry else {}, "external": [], "spec": {},
                 "spec_sha256": digest({}), "code": code, "environment": template,
                 "execution": {"started": "a", "ended": "b", "wall_sec": 0, "cpu_sec": 0,
                               "peak_memory_bytes": 0},
                 "facts": {} if entry else {"raw_checksum_verified": True}}
        seal, last = digest(found), path
        manifest.path_for(path).write_text(manifest.json_text(found | {"seal": seal}))
    found = Audit(last)
    assert found.artefact(last).level == 2 and len(found.results) == count


# --- telling, signing, pruning, comparing ---------------------------------------------------------------


def test_one_numbers_story_reaches_the_raw_data(original, capsys):
    assert cli.main(["--why", str(original / "t.csv"), "--row", "Ambient-o"]) == 0
    out = capsys.readouterr().out
    value = read_json(original / "runs/ambient/seed-0/metrics.json")["scores"][0]["value"]
    for words in ("row 3 of 3", f"{value:.6g} (sampling seed 0)", "denoiser.safetensors", "raw.zip  [raw"):
        assert words in out
    assert "only-clean" not in out.split("\n\n")[1]
    for row, words in (("9", "fits 0 rows"), ("x", "1 only-clean, 2 all-data, 3 ambient")):
        with pytest.raises(SystemExit) as stop:
            cli.main(["--why", str(original / "t.csv"), "--row", row])
        assert stop.value.code == 2 and words in capsys.readouterr().err


def test_json_has_levels_reasons_and_the_root(original, capsys):
    assert cli.main([str(original), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    table = found["artefacts"][str(original / "t.csv")]
    assert (table["level"], table["next"]) == (3, "")
    assert "--rerun" in found["artefacts"][str(original / "data/digits.safetensors")]["next"]
    seals = [(p.relative_to(original).as_posix(), manifest.read(manifest.path_for(p))["seal"])
             for p in artefacts_in(original)]
    assert found["roots"] == {str(original): {"sha256": merkle.root(seals), "manifests": len(seals)}}


def test_merkle_root_of_three_leaves():
    import hashlib

    def H(tag, data):
        return hashlib.sha256(tag + data).digest()

    leaves = (("a", "1"), ("b", "2"), ("c", "3"))
    a, b, c = (H(b"\0", f'["{name}","{seal}"]'.encode()) for name, seal in leaves)
    assert merkle.root([("c", "3"), ("a", "1"), ("b", "2")]) == H(b"\1", H(b"\1", a + b) + c).hex()
    assert merkle.root([]) == hashlib.sha256(b"").hexdigest()


def test_the_table_keeps_the_root_of_what_is_below_it(tree):
    stored = read_json(manifest.path_for(tree / "t.csv"))["root"]
    assert stored["manifests"] == 4 + 3 * 5  # shared ones, and those of a run without loss and moments
    refit(tree / "t.csv", root=stored | {"sha256": "0" * 64})
    assert ("t.csv", "contradicted") in problems(tree)


def keys(folder):
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private, public = folder / "key.pem", folder / "key.pub"
    private.write_bytes(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo))
    return private, public


def test_a_signature_holds_for_this_tree_and_key_only(tree, tmp_path, capsys):
    (tmp_path / "other").mkdir()
    private, public = keys(tmp_path)
    _, stranger = keys(tmp_path / "other")
    assert cli.main([str(tree), "--verify", str(public)]) == 1  # not signed yet
    assert cli.main([str(tree), "--sign", str(private)]) == 0
    envelope = read_json(tree / "root.dsse.json")
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    assert cli.main([str(tree), "--verify", str(public)]) == 0
    assert cli.main([str(tree), "--verify", str(stranger)]) == 1
    assert "not signed by this key" in capsys.readouterr().out
    # All of a leaf made to fit, which no digest can tell: the signature does.
    figure = tree / "t-grid.png"
    refit(figure, facts={"note": "edited"})
    assert not problems(tree)
    assert cli.main([str(tree), "--verify", str(public)]) == 1
    assert "signs another root" in capsys.readouterr().out
    write_json(tree / "root.dsse.json", envelope | {"payload": envelope["payload"][:-8] + "AAAAAAA="})
    assert cli.main([str(tree), "--verify", str(public)]) == 1
    for wrong in (tree / "t.csv", public):
        with pytest.raises(SystemExit):
            cli.main([str(tree), "--sign", str(wrong)])
        assert "openssl" in capsys.readouterr().err


def test_a_pruned_tree_is_closed_and_says_so(tree, capsys):
    assert prune.main([str(tree), "--dry-run"]) == 0 and "3 files" in capsys.readouterr().out
    assert prune.main([str(tree)]) == 0
    denoiser = tree / "runs/ambient/seed-0/denoiser.safetensors"
    assert not denoiser.exists() and prune.pruned_path(denoiser).exists()
    found = audit(tree)
    assert not problems(tree) and found.results[denoiser].pruned
    assert found.results[tree / "t.csv"].level == 3
    assert cli.main([str(tree)]) == 0 and "pruned: 3" in capsys.readouterr().out
    assert prune.main([str(tree), "--stages", "evaluate", "sample"]) == 0
    found = audit(tree)
    metrics = found.results[tree / "runs/ambient/seed-0/metrics.json"]
    assert not metrics.problems and metrics.level == 2 and "moments.safetensors was pruned" in metrics.reason
    assert found.results[tree / "t.csv"].level == 2
    # A record that fits another manifest is no record.
    write_json(prune.pruned_path(denoiser), read_json(prune.pruned_path(denoiser)) | {"seal": "0" * 64})
    assert ("denoiser.safetensors", "orphaned") in problems(tree)


def test_only_what_is_intact_is_pruned(tree, capsys):
    path = tree / "runs/ambient/seed-0/denoiser.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert prune.main([str(tree)]) == 0
    assert path.exists() and "kept:" in capsys.readouterr().out


def test_compare_names_the_cell_and_the_earliest_difference(original, tree, capsys):
    assert compare.main([str(original), str(tree)]) == 0
    assert "3 rows, 0 differ" in capsys.readouterr().out
    denoiser = tree / "runs/ambient/seed-0/denoiser.safetensors"
    arrays = {name: array + 1 for name, array in read_arrays(denoiser).items()}
    write_arrays(denoiser, arrays)
    refit(denoiser, spec={"seed": 1})
    metrics = tree / "runs/ambient/seed-0/metrics.json"
    found = read_json(metrics)
    write_json(metrics, found | {"scores": [s | {"value": s["value"] + 100} for s in found["scores"]]})
    refit(metrics)
    samples = tree / "runs/ambient/seed-0/samples.safetensors"
    write_arrays(samples, {name: array // 2 for name, array in read_arrays(samples).items()})
    refit(samples)
    lines = (tree / "t.csv").read_text().splitlines()
    cells = lines[3].split(",")
    cells[lines[0].split(",").index("value")] = "150.0"
    (tree / "t.csv").write_text("\n".join([*lines[:3], ",".join(cells)]) + "\n")
    assert compare.main([str(original), str(tree)]) == 1
    out = capsys.readouterr().out
    assert "t.csv, Ambient-o, blur, 0.6: value" in out and "1 differ" in out
    assert "begins at runs/ambient/seed-0/denoiser.safetensors: seed is 0 and 1" in out


@pytest.mark.parametrize(("a", "b", "same"), [
    ((10, 1), (12, 1), True), ((10, 1), (15, 1), False), ((10, 0.1), (10.5, 0.1), False)])
def test_a_cell_differs_by_more_than_two_standard_deviations(a, b, same):
    rows = [{"value": str(v), "value_std": str(s), "num_seeds": "2", "metric": "fid"} for v, s in (a, b)]
    assert (not compare.cells(*rows)) == same


def test_the_page_links_each_cell_and_escapes(original, tmp_path):
    assert cli.main([str(original), "--html", str(tmp_path / "a.html")]) == 0
    text = (tmp_path / "a.html").read_text()
    columns = len((original / "t.csv").read_text().splitlines()[0].split(","))
    assert text.count('<a href="#t0-2">') == columns and text.count('id="t0-2"') == 1
    assert text.count("data:image/png;base64,") == 3 and "Only Clean" in text
    found = audit(original)
    result = found.results[original / "t.csv"]
    result.problem("differs", "<script>alert(1)</script>")
    from ambient.audit.html import page

    assert "<script>" not in page(found, {})


# --- running jobs again ---------------------------------------------------------------------------------


def test_jobs_are_drawn_across_stages_and_by_the_root(original):
    found, refused = rerun.jobs(audit(original))
    assert {stage: len(of) for stage, of in found.items()} == {
        "annotate": 3, "corrupt": 1, "detector": 1, "evaluate": 3, "figures": 1, "reference": 1,
        "sample": 3, "summary": 1, "tables": 1, "train": 3}
    raw = shown(original / "data/digits.safetensors")
    assert refused == [f"not run again: prepare of {raw}: its raw data are not at hand"]
    drawn = [job.one.stage for job in rerun.draw(found, 10, "x")]
    assert sorted(drawn) == sorted(found) and len(rerun.draw(found, 99, "x")) == 18
    assert [j.name() for j in rerun.draw(found, 5, "x")] == [j.name() for j in rerun.draw(found, 5, "x")]


def test_a_job_run_again_is_identical_or_named(tree, monkeypatch):
    found = audit(tree)
    jobs, _ = rerun.jobs(found)
    (table,) = jobs["tables"]
    assert rerun.again(table, tree.parents[1]).endswith(": identical")
    assert found.results[tree / "t.csv"].level == 4
    (corrupt,) = jobs["corrupt"]  # its specification is none that the stage takes
    (tree.parents[1] / "b").mkdir()
    assert "failed: ambient.corrupt: error: --spec" in rerun.again(corrupt, tree.parents[1] / "b")
    assert corrupt.one.problems[0].word == "not repeated"


def test_the_declared_tolerance(tmp_path):
    a, b = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    pixels = np.full((1, 200), 100, np.uint8)
    near, far = pixels.copy(), pixels.copy()
    near[0, :2], far[0, :3] = 102, 102
    for other, fits in ((near, True), (far, False), (pixels + 3, False)):
        write_arrays(a, {"x": pixels})
        write_arrays(b, {"x": other})
        assert (rerun.within(a, b) is not None) == fits
    assert rerun.near({"v": 1.0}, {"v": 1.0009}) and not rerun.near({"v": 1.0}, {"v": 1.002})
    assert not rerun.near({"v": 1}, {"v": 2})


def test_the_first_difference_is_named(tree):
    old = read_json(manifest.path_for(tree / "t.csv"))
    new = json.loads(json.dumps(old))
    assert rerun.first_difference(old, new).startswith("no recorded difference")
    new["environment"]["packages"]["numpy"] = "1.0"
    assert rerun.first_difference(old, new) == f"numpy was {np.__version__}, is 1.0"


# --- attempts, and export -------------------------------------------------------------------------------


def test_interrupted_attempts_are_kept(tmp_path, monkeypatch):
    state, code = tmp_path / "state/train", {"commit": "c" * 40}
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert Journal(state, ["a"]).begin(manifest.Clock(), code) == []
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert Journal(state, ["other"]).begin(manifest.Clock(), code) == []
    journal = Journal(state, ["a"])
    (earlier,) = journal.begin(manifest.Clock(), code)
    assert earlier["scheduler"] == {"job_id": "17"} and earlier["commit"] == "c" * 40
    path = tmp_path / "x.bin"
    path.write_text("x")
    found = manifest.build(path, "ambient.train", {}, {}, [], {}, manifest.Clock(), interrupted=[earlier])
    assert found["execution"]["interrupted"] == [earlier]
    assert found["execution"]["scheduler"] == {"job_id": "17", "restarts": "1"}
    journal.remove()
    assert list((tmp_path / "state").iterdir()) == []


def test_the_crate_describes_every_file_and_job(original, tmp_path):
    assert crate.main([str(original), "--out", str(tmp_path / "crate")]) == 0
    metadata = json.loads((tmp_path / "crate/ro-crate-metadata.json").read_text())
    graph = {entity["@id"]: entity for entity in metadata["@graph"]}
    table = graph["results/t.csv"]
    assert table["sha256"] == sha256(tmp_path / "crate/results/t.csv") == sha256(original / "t.csv")
    assert table["contentSize"] == str((original / "t.csv").stat().st_size)
    kinds = [e["@type"] for e in graph.values()]
    assert kinds.count("CreateAction") == 20 and kinds.count("ControlAction") == 19
    assert {"@id": "https://w3id.org/ro/crate/1.1"} in graph["ro-crate-metadata.json"]["conformsTo"]
    assert {p["@id"] for p in graph["./"]["conformsTo"]} == set(crate.PROFILES)
    (action,) = [e for e in graph.values() if e.get("name") == "tables of t.csv"]
    assert len(action["object"]) == 6 + 4 + 1 and action["result"] == [{"@id": "results/t.csv"}]
    for entity in graph.values():  # every reference leads somewhere
        for value in entity.values():
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, dict) and not one["@id"].startswith("http"):
                    assert one["@id"] in graph, (entity["@id"], one)


VALIDATOR = ROOT / ".venv-crate/bin"


@pytest.mark.skipif(not VALIDATOR.is_dir(), reason="roc-validator is not set up; make test does so")
def test_the_crate_is_a_valid_provenance_run_crate(original, tmp_path):
    """By roc-validator, without a network: every required check passes, and a spoilt crate does not."""
    cache, report, out = tmp_path / "cache", tmp_path / "report.json", tmp_path / "crate"
    subprocess.run([VALIDATOR / "python", ROOT / "tests/crate_context.py", cache], check=True)

    def failed():
        command = [VALIDATOR / "rocrate-validator", "--no-interactive", "validate", "--offline",
                   "--cache-path", cache, "--profile-identifier", "provenance-run-crate",
                   "--requirement-severity", "required", "--output-format", "json",
                   "--output-file", report, out]
        done = subprocess.run(command, capture_output=True, text=True)
        found = json.loads(report.read_text())
        assert found["statistics"]["total_checks"] >= 85, done.stdout + done.stderr
        return {issue["check"]["identifier"]: issue["message"] for issue in found["issues"]}

    assert crate.main([str(original), "--out", str(out)]) == 0
    assert failed() == {}
    metadata = out / "ro-crate-metadata.json"
    graph = json.loads(metadata.read_text())
    for entity in graph["@graph"]:
        if entity["@type"] == "CreateAction":
            entity.pop("instrument", None)
    metadata.write_text(json.dumps(graph))
    assert any(name.startswith("process-run-crate") for name in failed())


def test_commands_start_without_torch():
    for name in ("audit", "prune", "compare", "crate"):
        code = ("import sys; from ambient.__main__ import main\n"
                f"try: main(['{name}', '--help'])\nexcept SystemExit: pass\n"
                "print(sorted({'torch', 'pandas', 'numpy', 'snakemake', 'rocrate'} & set(sys.modules)))")
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                              check=True)
        assert done.stdout.splitlines()[-1] == "[]"
