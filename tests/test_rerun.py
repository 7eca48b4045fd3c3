"""Jobs run again by the audit: which are drawn, what counts as equal, the first difference."""

import json

import numpy as np
from results_tree import audit

from ambient import manifest
from ambient.audit import rerun
from ambient.audit.chain import shown
from ambient.files import read_json, write_arrays


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
