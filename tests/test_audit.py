"""The audit of a whole tree: levels, and tampering."""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import results_tree
from results_tree import audit, problems, refit

from ambient.audit.stages import report, summary
from ambient.cluster.told import Judge
from ambient.provenance import merkle, source_code
from ambient.provenance.manifest import path_for
from ambient.report import page
from ambient.settings.asked import Told
from ambient.specs import DetectorSpec, ReportSpec, SummarySpec
from ambient.specs.strict import build, plain
from ambient.storage.files import read_arrays, read_json, write_arrays, write_json

ROOT = Path(__file__).parents[1]


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


def test_without_numpy_a_result_stays_at_level_2_and_says_so(original, monkeypatch):
    monkeypatch.setitem(sys.modules, "numpy", None)  # what is not installed
    path = original / "runs/ambient/seed-0/metrics.json"
    result = audit(path).results[path]
    assert (result.level, result.problems) == (2, []) and "needs numpy" in result.reason


@pytest.mark.parametrize("change", [
    "copied", pytest.param("moved", marks=pytest.mark.draws_anew), "read-only", "CRLF"])
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


@pytest.mark.parametrize("deed", ["flip", "array", "rows", "swap", "stores", "cell", "delete", "manifest",
                                  "code"])
def test_tampering_is_named(tree, tmp_path, monkeypatch, deed):
    from benchmarks.tamper import run

    code = tmp_path / "code"
    shutil.copytree(ROOT / "ambient", code / "ambient", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(source_code, "ROOT", code)
    monkeypatch.setattr(source_code, "PACKAGE", code / "ambient")
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


def test_the_next_summary_and_report_say_the_level_of_a_table_that_was_edited(tree):
    table, nothing = tree / "t.csv", SimpleNamespace(facts={})
    every = build(SummarySpec, read_json(path_for(tree / "summary.csv"))["spec"], "spec")
    pictures = [tree / f"t{part}.png" for part in page.PICTURES]
    said = []
    for text in (table.read_text(), table.read_text() + "\n"):
        table.write_text(text)
        summary.main(every, nothing, tables=[table], out=tree / "summary.csv")
        report.main(ReportSpec("tiny", every.tables, ()), nothing, tables=[table], pictures=pictures,
                    out=tree / "report.html")
        rows = csv.DictReader((tree / "summary.csv").read_text().splitlines())
        said.append(({row["provenance_level"] for row in rows},
                     re.findall(r"Provenance: level (\d)", (tree / "report.html").read_text())))
    assert said == [({"3"}, said[0][1]), ({"0"}, said[1][1])]
    assert set(said[0][1]) == {"3"} and set(said[1][1]) == {"0"}


def test_a_summary_is_made_again_where_the_manifest_of_its_table_is_another(tree):
    """The level of its table stands in it, and may be another one, though the table has the same bytes."""
    path, table = tree / "summary.csv", tree / "t.csv"
    found = read_json(path_for(path))
    told = Told("summary", build(SummarySpec, found["spec"], "spec"))
    job = SimpleNamespace(output=[path], input=merkle.parents(path, found))
    assert table in job.input and Judge(lambda _: told).differences(job, told) == []
    refit(table, facts={"rows": 7})
    ((_, found),) = Judge(lambda _: told).differences(job, told)
    assert found.key == f"input {table}"


@pytest.mark.draws_anew
def test_a_figure_of_other_data_is_found(tree):
    shutil.copy(tree / "t-grid.png", tree / "t.png")
    refit(tree / "t.png")
    assert ("t.png", "differs") in problems(tree / "t.png")


def test_a_file_made_anew_makes_what_came_from_it_stale(tree):
    path = tree / "runs/ambient/seed-0/denoiser.safetensors"
    write_arrays(path, {"256/w": np.zeros((4, 4), np.float32)})
    refit(path)
    assert problems(tree / "t.csv") == {("samples.safetensors", "stale")}


def test_commands_start_without_torch():
    for name in ("audit", "prune", "compare", "crate"):
        code = ("import sys; from ambient.__main__ import main\n"
                f"try: main(['{name}', '--help'])\nexcept SystemExit: pass\n"
                "print(sorted({'torch', 'pandas', 'numpy', 'snakemake', 'rocrate'} & set(sys.modules)))")
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                              check=True)
        assert done.stdout.splitlines()[-1] == "[]"


def test_a_score_in_other_features_that_is_called_fid_is_found(tmp_path, monkeypatch):
    """Every manifest fits every other; the detector is not Inception's file."""
    detector = plain(DetectorSpec("inception", resize="legacy"))
    monkeypatch.setattr(results_tree, "DETECTOR", detector)
    monkeypatch.setattr(results_tree, "EVALUATION", {"metric": "fid", "detector": detector, "seeds": [0, 1]})
    folder = tmp_path / "results/tiny"
    results_tree.make(folder)
    path = folder / "runs/ambient/seed-0/metrics.json"
    found = [str(problem) for problem in audit(path).results[path].problems]
    assert len(found) == 1 and "differs: called fid, but its detector" in found[0]
    assert "is not Inception's file f58cb9b6ec32" in found[0]


def test_moments_that_let_any_score_pass_are_refused(tree):
    """With infinite moments the tolerance was infinite too."""
    path = tree / "runs/ambient/seed-0/moments.safetensors"
    arrays = read_arrays(path)
    arrays["256/0/covariance"] = arrays["256/0/covariance"] * np.inf
    write_arrays(path, arrays)
    refit(path)
    score = path.with_name("metrics.json")
    found = [str(problem) for problem in audit(score).results[score].problems]
    assert any("moments.safetensors: 256/0/moments: covariance" in one for one in found), found
