"""The summary: every published number beside ours."""

import io
import json
import math

import pandas as pd
import pytest
import results_tree
from tables import table_of

from ambient.annotation.statistics import crossing_of
from ambient.provenance import manifest
from ambient.report import (
    published,
)
from ambient.settings.counted import counted
from ambient.settings.entry_types import TextEntry
from ambient.specs import RowSpec, SummarySpec, TableSpec, TextSpec
from ambient.specs.strict import SpecError, plain
from ambient.storage.files import read_json


def test_crossing_is_linear_in_the_logarithm():
    levels = pd.DataFrame({"sigma": [0.1, 1.0, 10.0], "p_clean_of_corrupted": [0.1, 0.3, 0.5]})
    assert crossing_of(levels, 0.4) == pytest.approx(math.sqrt(10))
    assert crossing_of(levels, 0.05) == pytest.approx(0.1)
    assert crossing_of(levels, 0.6) is None


def test_summary_has_every_published_number_and_the_notes(paper):
    spec = paper.tables["table6"]
    found = pd.DataFrame(published.rows_of("table6", spec.rows, table_of(spec)))
    fids = found[found["quantity"] == "fd-x"]
    printed = [5.49, 5.36, 5.35, 5.69, 5.40, 5.34]
    assert list(fids["paper"].fillna(0)) == [*printed, 0, *printed]
    assert list(fids["protocol"]) == 7 * ["strict balanced"] + 6 * ["leaky uniform (clean fraction 0.5)"]
    assert (fids["paper_quantity"] == "fid").all() and (fids["ours"] == 7.0).all()
    assert "5.56" in fids["note"].iloc[0] and "released code" in fids["note"].iloc[6]
    assert "weight=none" in fids["parameters"].iloc[0]
    assert list(found[found["quantity"] == "sigma_min_mean"]["paper"]) == [1.38, 1.38]
    with pytest.raises(ValueError, match="table table6: its rows are not those of the configuration"):
        published.rows_of("table6", spec.rows, table_of(spec).iloc[:-1])


def timed_log(folder, name, images, begun, seconds):
    """The log of a training whose last attempt began after `begun` images and took so many seconds."""
    log = folder / name / "loss.jsonl"
    log.parent.mkdir()
    log.write_text("{}\n")
    facts = {"images_seen": images, "attempts": [{"from_nimg": begun}]}
    results_tree.record("train", {"log": log}, facts=facts)
    results_tree.refit(log, execution=read_json(manifest.path_for(log))["execution"] | {"wall_sec": seconds})
    return log


def text(of, runs, paper, **more):
    return TextSpec(of, of, runs, paper, more.get("protocol"), None, 0.45, more.get("note"))


def test_numbers_of_the_running_text_stand_in_the_summary(tmp_path):
    rows = tuple(RowSpec(run, f"runs/{run}", run, None, {}, {}, None) for run in ("plain", "weight"))
    table = TableSpec("t", "demo", rows, (0,))
    frame = table_of(table)
    frame["value"] = [5.5, 5.2]
    frame.to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "report.json").write_text(json.dumps({"levels": [
        {"sigma": 0.1, "p_clean_of_corrupted": 0.05}, {"sigma": 10.0, "p_clean_of_corrupted": 0.85}]}))
    # 3,000 images in 6 s; 1,000 in 4 s after a resumption; an attempt that found the work done says nothing.
    logs = [timed_log(tmp_path, "a", 3000, 0, 6.0), timed_log(tmp_path, "b", 7200, 6200, 4.0)]
    done = timed_log(tmp_path, "c", 3000, 3000, 1.0)
    both = ("plain", "weight")
    texts = (text("crossing", ("plain",), 1.64, protocol="strict balanced"), text("value", ("plain",), 5.56),
             text("gain", both, 0.13), text("seconds_per_1000", both, 0.8, note="8 V100"),
             text("hours", both, 4.4))
    spec = SummarySpec((table,), texts)
    report = tmp_path / "report.json"
    made = published.rebuild(plain(spec), [tmp_path / "t.csv"], [3], [*logs, *logs], [report],
                           [1, 2, 3, 1, 2])
    found = pd.read_csv(io.StringIO(made)).set_index("id").loc[[one.id for one in texts]]
    assert list(found["ours"]) == pytest.approx([1.0, 5.5, 0.3, 3.0, (6.0 + 28.8) / 2 / 3600], rel=1e-5)
    assert list(found["paper"]) == [1.64, 5.56, 0.13, 0.8, 4.4]
    assert list(found["provenance_level"]) == [1, 2, 3, 1, 2] and found["table"].eq("running text").all()
    assert found["quantity"].tolist() == ["crossing", "fd-x", "fd-x", "seconds_per_1000", "hours"]
    assert "8 V100; ours: mean of 2 trainings" in found.loc["seconds_per_1000", "note"]
    assert found.loc["crossing", "protocol"] == "strict balanced"
    assert published.time_of(texts[3], [logs[0], done])[0] == 2.0
    for wrong in (([*logs], [tmp_path / "report.json"]), ([*logs, *logs], [])):
        with pytest.raises(ValueError, match="files for"):
            published.rebuild(plain(spec), [tmp_path / "t.csv"], [3], *wrong, [1, 2, 3, 1, 2])


def test_sizes_and_costs_of_large_runs_follow_from_their_settings(paper, tmp_path):
    """Operations by the published multiply-adds of a forward pass: 45.0 and 546.9 10^9."""
    found = {one.id: one for one in paper.texts() if one.counted is not None}
    assert {name: one.paper for name, one in found.items() if one.counted == one.paper} == {
        "imagenet_lr": 0.012, "imagenet_batch": 2048, "imagenet_quality_split_good": 0.1,
        "t2i_batch": 2048, "t2i_lr_phase4": 8e-5}
    for run, size in (("edm2-xs", 124_713_253), ("edm2-xxl", 1_523_164_773), ("guide-xs", 124_201_253)):
        millions = counted(paper, run, "parameters_1e6", None)  # without the head of the log-variance
        assert round(millions * 1e6) == size - 128
    assert found["imagenet_params"].counted == 124.713125
    assert found["imagenet_duration_xxl"].counted == 939.524096
    for name, billions, images in (("xs", 45.0, 2**31), ("xxl", 546.9, 939_524_096)):
        days = 6 * billions * 1e9 * images / (178e12 * 86400)
        assert found[f"imagenet_{name}_time"].counted == pytest.approx(days, rel=2e-3)
    assert found["t2i_params"].counted == 1165.44232
    assert found["t2i_time"].counted == pytest.approx(3.4e20 / (178e12 * 86400), rel=0.05)
    row = published.text_row(found["imagenet_xs_time"], {"edm2-xs": {"method": "EDM2-XS"}}, [])
    assert row["ours"] == found["imagenet_xs_time"].counted and row["paper"] == 96
    assert row["quantity"] == row["paper_quantity"] == "gpu_days" and "32 H200" in row["note"]


def test_a_phase_is_counted_with_all_before_it_and_without_masked_patches(paper):
    """The authors' four phases are 686 M images and 3.4e20 operations; the first, mostly masked, 1.47e20."""
    def operations(run):
        return counted(paper, run, "gpu_days", 1.0) * 1e12 * 86400

    assert [counted(paper, f"text-all{end}", "images_1e6", None) for end in ("-1", "-2", "-3", "")] == [
        512.0, 573.44, 675.84, 686.08]
    assert operations("text-all-1") == pytest.approx(1.47e20, rel=0.02)
    assert operations("text-all") == pytest.approx(3.4e20, rel=0.05)
    training, (channels, side) = paper.first_training("text-all-2"), paper.shape("text-256")
    whole = 6 * training.network.cost(side, channels).multiply_adds * 2048 * 30_000
    assert operations("text-all-2") - operations("text-all-1") == pytest.approx(whole)


def test_a_number_is_counted_or_measured():
    with pytest.raises(SpecError, match="counted: got None, allowed: a number for what follows from"):
        text("batch", ("plain",), 5)
    with pytest.raises(SpecError, match="tflops: got None, allowed: > 0 for gpu_days, else null"):
        TextEntry("gpu_days", 3.0, ("plain",))
