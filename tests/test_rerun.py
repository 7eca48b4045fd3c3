"""Jobs run again by the audit: which are drawn, what counts as equal, the first difference."""

import copy
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from results_tree import audit, refit

from ambient.audit import cli, contents, prune, rerun, roles
from ambient.audit.chain import shown
from ambient.provenance import manifest, source_code
from ambient.storage.files import digest, read_arrays, read_json, sha256, write_arrays, write_json


def test_jobs_are_drawn_across_stages_and_by_the_root(original):
    found, refused = rerun.jobs(audit(original))
    assert {stage: len(of) for stage, of in found.items()} == {
        "annotate": 3, "corrupt": 1, "detector": 1, "evaluate": 3, "figures": 1, "reference": 1,
        "sample": 3, "summary": 1, "tables": 1, "train": 3}
    raw = shown(original / "data/digits.safetensors")
    assert list(refused.values()) == [f"not run again: prepare of {raw}: its raw data are not at hand"]
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
        assert (contents.within(a, b) is not None) == fits
    assert contents.near({"v": 1.0}, {"v": 1.0009}) and not contents.near({"v": 1.0}, {"v": 1.002})
    assert not contents.near({"v": 1}, {"v": 2})


def test_the_first_difference_is_named(tree):
    old = read_json(manifest.path_for(tree / "t.csv"))
    new = json.loads(json.dumps(old))
    assert rerun.first_difference(old, new).startswith("no recorded difference")
    new["environment"]["packages"]["numpy"] = "1.0"
    assert rerun.first_difference(old, new) == f"numpy was {np.__version__}, is 1.0"


def reseal(found):
    """A manifest with a seal that fits."""
    found = {key: value for key, value in found.items() if key != "seal"}
    return found | {"seal": digest(found)}


@pytest.fixture
def made(tmp_path):
    """Two real jobs: procedural images, and a mixture of them."""
    data, mixture = tmp_path / "results/x/data/p.safetensors", tmp_path / "results/x/mixtures/m.safetensors"
    for words in (
            ["prepare", {"source": "procedural", "resolution": 16, "channels": 1, "num_images": 12}],
            ["corrupt", {"clean_fraction": 0.5, "seed": 0, "op": "gaussian_blur", "params": {"sigma_px": 1}},
             "--data", data]):
        stage, spec, *inputs = words
        files = [*inputs, "--state", tmp_path / stage, "--out", mixture if inputs else data]
        subprocess.run([sys.executable, "-m", "ambient", "run", stage, "--spec", json.dumps(spec), *files],
                       cwd=source_code.ROOT, check=True)
    return data, mixture


def test_what_was_pruned_is_made_again_before_what_reads_it(made, capsys):
    data, mixture = made
    top = mixture.parents[1]
    assert prune.main([str(top), "--stages", "prepare", "corrupt"]) == 0 and not mixture.exists()
    assert cli.main([str(top), "--rerun", "9"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("re-executed")]
    assert [line.split()[1] for line in lines] == ["prepare", "corrupt"]
    assert all(line.endswith(": identical") for line in lines)
    assert not data.exists() and not mixture.exists()
    assert cli.main([str(top), "--rerun", "1"]) == 0
    assert "not run again: 1 " in capsys.readouterr().out
    assert cli.main([str(top), "--rerun", str(mixture)]) == 2  # it could not be done
    found = capsys.readouterr()
    assert "p.safetensors was pruned, and its job was not run before; give --rerun " in found.out
    assert "running again" not in found.err
    assert cli.main([str(top), "--rerun", str(mixture), "--rerun", str(data)]) == 0


def test_the_job_of_a_file_is_run_again(made, capsys):
    data, mixture = made
    assert cli.main(["--rerun", str(mixture)]) == 0  # with no other path it alone is audited
    out = capsys.readouterr().out
    assert f"re-executed corrupt of {mixture}: identical" in out.splitlines() and "not run again" not in out
    top = mixture.parents[1]
    assert cli.main([str(top), "--rerun", str(manifest.path_for(data)), "--rerun", "1"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("re-executed")]
    assert [line.split()[1] for line in lines] == ["prepare", "corrupt"]  # the one that is left is drawn


ALLOWED = "; allowed: a number of jobs, or a file that is audited"


@pytest.mark.parametrize(("word", "said"), [
    ("1.5", f": there is no such file{ALLOWED}"),
    ("nowhere.csv", f": there is no such file{ALLOWED}"),
    ("tests", f": this is a folder: name a file in it{ALLOWED}"),
    ("pyproject.toml", f": this file has no manifest, so nobody can say how it was made{ALLOWED}")])
def test_what_is_no_number_and_no_file_of_the_tree_is_refused(made, word, said, monkeypatch):
    monkeypatch.chdir(source_code.ROOT)
    with pytest.raises(ValueError, match=f"^--rerun {word}{said}$"):
        cli.main([str(made[1].parents[1]), "--rerun", word])


def test_a_file_may_be_named_through_a_link_to_its_tree(made, tmp_path, capsys):
    _, mixture = made
    (tmp_path / "other").symlink_to(tmp_path / "results")
    named = str(tmp_path / "other/x/mixtures/m.safetensors")
    assert cli.main([str(mixture.parents[1]), "--rerun", named]) == 0
    assert f"re-executed corrupt of {mixture}: identical" in capsys.readouterr().out.splitlines()
    assert cli.main([str(mixture.parents[1]), "--why", named]) == 0
    assert capsys.readouterr().out.startswith(f"{mixture}  [corrupt, ")


def test_why_the_job_of_a_file_cant_be_run_again_is_said(original, capsys):
    path = original / "data/digits.safetensors"
    assert cli.main(["--rerun", str(path), "--allow-other-code", "--allow-other-settings"]) == 2
    out = capsys.readouterr().out
    assert f"not run again: prepare of {shown(path)}: its raw data are not at hand" in out.splitlines()


def test_images_made_up_are_found_by_running_their_job_again(made, capsys):
    data, mixture = made
    arrays, true = read_arrays(mixture), read_json(manifest.path_for(mixture))["content_sha256"]
    write_arrays(mixture, arrays | {"images": arrays["images"][::-1].copy()})
    refit(mixture)
    assert cli.main([str(mixture)]) == 0
    assert cli.main([str(mixture), "--rerun", "9"]) == 1
    out = capsys.readouterr().out
    assert "m.safetensors: not repeated: different (images[0, 0, 0, 0]: " in out
    assert "possible cause: no recorded difference" in out
    real = read_json(manifest.path_for(mixture))  # nor by one that claims the arrays of the job itself
    write_json(manifest.path_for(mixture), reseal(real | {"content_sha256": true}))
    assert cli.main([str(mixture), "--rerun", str(mixture)]) == 1
    assert "re-executed corrupt of" in (out := capsys.readouterr().out) and ": different (images[" in out
    record = read_json(manifest.path_for(mixture))  # and can't be hidden by a manifest that names no outputs
    write_json(manifest.path_for(mixture), reseal({k: v for k, v in record.items() if k != "outputs"}))
    assert cli.main([str(mixture), "--rerun", "9"]) == 1
    out = capsys.readouterr().out
    assert "m.safetensors: incomplete: " in out and "not run again: corrupt of " in out


def test_a_job_is_never_told_to_write_into_the_tree(made, capsys):
    """An input called `out` would be an option that the stage writes to."""
    data, mixture = made
    victim = data.with_name("victim.safetensors")
    shutil.copy(data, victim)
    shutil.copy(manifest.path_for(data), manifest.path_for(victim))
    refit(victim, artefact=victim.name, outputs={"out": {"path": victim.name, "sha256": sha256(victim)}})
    before = victim.read_bytes()
    record = read_json(manifest.path_for(mixture))
    entry = {"path": "../data/victim.safetensors", "sha256": sha256(victim)}
    write_json(manifest.path_for(mixture), reseal(record | {"inputs": record["inputs"] | {"out": [entry]}}))
    assert cli.main([str(mixture), "--rerun", "9", "--allow-other-code"]) == 1
    assert victim.read_bytes() == before
    out = capsys.readouterr().out
    assert "contradicted: read by its job as 'out'" in out and "not run again: corrupt of " in out


def test_the_page_has_what_was_run_again_and_what_was_not(original, tmp_path, capsys):
    page, words = tmp_path / "a.html", ["--allow-other-code", "--allow-other-settings"]
    cli.main([str(original), "--rerun", str(original / "t.csv"), "--html", str(page), *words])
    lines = capsys.readouterr().out.splitlines()
    told = [line for line in lines if line.startswith("re-executed") or " jobs behind " in line]
    assert told[0].startswith("re-executed tables of ") and ": 1 of the " in told[1]
    said = page.read_text()
    assert "<h2>Jobs that were run again</h2>" in said and "t.csv, level 4</h2>" in said
    assert "\n".join(told) in said
    cli.main([str(original), "--html", str(page), *words])
    assert "run again</h2>" not in page.read_text()


def test_each_table_says_what_of_its_jobs_was_run_again(original):
    found = audit(original)
    table = found.results[original / "t.csv"]
    for result in found.results.values():
        result.repeated = result.stage in ("tables", "evaluate")
    assert rerun.reach(found, table).endswith(
        "4 of the 17 jobs behind it were run again with the same result, not so: 3 annotate, 1 corrupt, "
        "1 detector, 1 prepare, 1 reference, 3 sample, 3 train")


def own(result):
    """A result with a manifest of its own: those that were read share equal parts, also between tests."""
    result.manifest = copy.deepcopy(result.manifest)
    return result


def test_nothing_is_downloaded_or_looked_for(original):
    result = own(audit(original).results[original / "data/digits.safetensors"])
    for source, at_hand in (("mnist", True), ("procedural", True), ("cifar10", False), ("images", False)):
        result.manifest["spec"]["source"], result.manifest["external"] = source, []
        assert rerun.available(result) == at_hand
    weights = own(audit(original).results[original / "detectors/digits/net.weights"])
    assert rerun.available(weights)
    weights.manifest["spec"]["kind"] = "inception"
    assert not rerun.available(weights)


def test_stages_are_known_by_the_names_that_manifests_record():
    assert roles.of("ambient.train").reads == ("data", "latents", "texts", "start", "annotations")
    assert not any(map(roles.of, ("ambient.manifest", "ambient.gone", "train", "ambient.audit_page")))


@pytest.mark.parametrize(("name", "one", "other", "said"), [
    ("t.csv", "a,b\n1,2\n", "a,b\n1,3\n", "line 2, column 2: 2 is recorded, the job gives 3"),
    ("m.json", '{"a": [1, {"v": 2}]}', '{"a": [1, {"v": 3}]}', "a.1.v: 2 is recorded, the job gives 3"),
    ("m.json", '{"a": 1}', '{"b": 1}', "'a' is recorded where the job gives 'b'"),
    ("t.csv", "a\n1\n", "a\n1\n2\n", "'line 3, column 1' is given by the job alone"),
    ("m.json", '{"a": [1, 2]}', '{"a": [1]}', "'a.1' is recorded alone"),
    ("t.png", "a", "b", None)])
def test_the_first_other_number_is_named(tmp_path, name, one, other, said):
    for folder, text in (("old", one), ("new", other)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(text)
    assert contents.first_other(tmp_path / "old" / name, tmp_path / "new" / name) == said


def test_the_first_other_number_of_arrays_is_named(tmp_path):
    a = np.array([[1.0, np.nan], [3.0, 4.0]])
    b = np.where(a == 3.0, 3.5, a)
    for name, array in (("a.safetensors", a), ("b.safetensors", b), ("c.safetensors", a[:1])):
        write_arrays(tmp_path / name, {"w": array, "x": array})
    one, two, three = (tmp_path / f"{name}.safetensors" for name in "abc")
    assert contents.first_other(one, two) == "w[1, 0]: 3.0 is recorded, the job gives 3.5; 1 of 4 differ"
    assert contents.first_other(one, one) is None
    assert contents.first_other(one, three) == "w: float64 (2, 2) is recorded, the job gives float64 (1, 2)"
