"""Tables: a row from scores and annotations, and how many of the added images it used."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import RECORD

from ambient import specs
from ambient.annotation.statistics import statistics
from ambient.data import usage
from ambient.data.annotations import Annotations
from ambient.diffusion.eligible import Admission
from ambient.evaluation.detectors import inception
from ambient.report import captions, page, published, tables
from ambient.specs import strict
from ambient.stages import tables as tables_stage
from ambient.storage.files import write_arrays


def scores(values):
    """{nimg: [value a seed]} as a score list."""
    return [{"nimg": nimg, "seed": seed, "value": value}
            for nimg, row in values.items() for seed, value in enumerate(row)]


def test_summary_numbers():
    one = scores({100: [5.0, 7.0], 200: [8.0, 12.0]})
    two = scores({100: [4.0, 4.0], 200: [3.0, 5.0]})
    found = tables.summarise([one, two])
    assert found["value"] == pytest.approx((10 + 4) / 2)
    assert found["value_std"] == pytest.approx(np.sqrt((8 + 2) / 2))
    assert found["value_min"] == 3.0 and found["value_best"] == pytest.approx((6 + 4) / 2)
    assert found["training_std"] == pytest.approx(np.std([10, 4], ddof=1))
    assert found["num_seeds"] == 2 and found["num_training_seeds"] == 2 and found["nimg"] == 200
    assert tables.summarise([one])["best_nimg"] == 100
    assert found["training_values"] == "10/4" and tables.summarise([one])["training_values"] is None
    assert np.isnan(tables.summarise([one])["training_std"])


def make_table(tmp_path):
    rows = (specs.RowSpec("a", "runs/a", "Only Clean", None, {}, {"fid": 8.79}, None),
            specs.RowSpec("b", "runs/b", "Ambient-o", "jpeg", {"quality": 25}, {}, "noise"))
    files = []
    for name, values in (("a", {10: [2.0]}), ("b", {10: [1.0]})):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({"metric": "fd-x", "scores": scores(values), "num_samples": 9,
                                    "reference_images": 5}))
        (tmp_path / f"{name}-annotations.json").write_text(
            json.dumps({"sigma_min_mean": 1.5} if name == "b" else {}))
        files.append(path)
    return (specs.TableSpec("t", "demo", rows, (0,)), files,
            [tmp_path / "a-annotations.json", tmp_path / "b-annotations.json"])


def test_a_table_names_what_its_scorers_ask_and_has_the_papers_number_of_each_column(tmp_path):
    """A published number stands beside the column that it is of; one of no column is left out."""
    made, metrics, annotations = make_table(tmp_path)
    printed = {"fid": 8.79, "clip_mean": 0.5, "fd-y": 3.0, "z_mean": 1.0}
    first = dataclasses.replace(made.rows[0], paper=printed)
    asked = ({"detector": "eyes", "model": "clip"}, {})
    spec = dataclasses.replace(made, rows=(first, made.rows[1]), scorers=("clip", "plain"), asked=asked)
    for name in ("a", "b"):
        write_arrays(tmp_path / f"{name}.safetensors", {"score": np.array([[0.25, 0.75]])})
    scored = [tmp_path / f"{name}.safetensors" for name in ("a", "b")] * 2
    table = tables.frame(spec, metrics, annotations, scored=scored)
    assert table["clip_detector"].tolist() == ["eyes"] * 2 and table["clip_model"].tolist() == ["clip"] * 2
    assert "plain_detector" not in table and "paper_z_mean" not in table and "paper_fd-y" not in table
    assert table["paper_clip_mean"][0] == 0.5 and np.isnan(table["paper_clip_mean"][1])
    shown = page.table_of(spec, table)
    cells = dict(zip(shown["columns"], shown["rows"][0]["cells"], strict=True))
    assert [cells[f"clip: {key}"] for key in ("mean", "mean, the paper's", "detector", "model")] == [
        "0.500", "0.500", "eyes", "clip"]
    found = published.scored("t", spec, table)
    assert [(one["quantity"], one["ours"], one["paper"]) for one in found] == [("clip_mean", 0.5, 0.5)]
    points = [{"training_id": row.training_id, "metric": "fd-x", "value": value, "value_std": 0.25,
               "ema_std": 0.1, "guidance": 1.0} for row, value in zip(spec.rows, (3.5, 2.5), strict=True)]
    pd.DataFrame(points).to_csv(tmp_path / "sweep.csv", index=False)
    swept = tables.frame(dataclasses.replace(spec, sweeps=("grid",)), metrics, annotations, scored=scored,
                         sweeps=[tmp_path / "sweep.csv"])
    assert swept["fd-x_unguided"].tolist() == [3.5, 2.5]
    assert swept["fd-x_unguided_std"].tolist() == [0.25, 0.25] and "fd-x_guided_std" not in swept
    assert swept["paper_clip_mean"][0] == 0.5 and np.isnan(swept["paper_clip_mean"][1])
    assert published.scored("t", spec, swept)[0]["paper"] == 0.5
    with pytest.raises(strict.SpecError, match="asked: got .*, allowed: one for each of scorers, or none"):
        dataclasses.replace(spec, asked=asked[:1])


def test_table_columns_and_rows(tmp_path):
    made, metrics, annotations = make_table(tmp_path)
    tables_stage.main(made, RECORD, metrics=metrics, annotations=annotations, out=tmp_path / "t.csv")
    table = pd.read_csv(tmp_path / "t.csv")
    assert list(table.columns[:9]) == ["method", "corruption", "quality", "metric", "value", "value_std",
                                       "value_min", "value_best", "num_samples"]
    assert {"num_seeds", "sigma_min_mean", "paper_value", "run_id"} <= set(table.columns)
    assert list(table["method"]) == ["Only Clean", "Ambient-o"] and list(table["value"]) == [2.0, 1.0]
    assert np.isnan(table["sigma_min_mean"][0]) and table["sigma_min_mean"][1] == 1.5
    text = tables.rebuild(strict.plain(made), {"metrics": metrics, "annotations": annotations})
    assert text == (tmp_path / "t.csv").read_text()


def test_different_protocols_are_not_mixed(tmp_path):
    made, metrics, annotations = make_table(tmp_path)
    other = json.loads(metrics[1].read_text()) | {"num_samples": 10}
    (tmp_path / "c.json").write_text(json.dumps(other))
    with pytest.raises(ValueError, match="scored differently"):
        tables.row(made.rows[0], [json.loads(metrics[0].read_text()), other], {})
    with pytest.raises(ValueError, match="1 score files"):
        tables.frame(made, metrics[:1], annotations)


def test_tables_say_what_an_annotation_rests_on(tmp_path):
    made, metrics, annotations = make_table(tmp_path)
    annotations[1].write_text(json.dumps(json.loads(annotations[1].read_text()) | {
        "sigma_min_lag": 0.145, "crop_tolerance": {"absolute": 1e-3, "relative": 0.05}}))
    tables_stage.main(made, RECORD, metrics=metrics, annotations=annotations, out=tmp_path / "t.csv")
    table = pd.read_csv(tmp_path / "t.csv")
    assert table["sigma_min_lag"].iloc[1] == 0.145 and table["crop_tolerance"].iloc[1] == "0.001 and 5%"
    assert table[["sigma_min_lag", "crop_tolerance"]].iloc[0].isna().all()
    assert captions.tolerance(1e-3, None) == "0.001"


def test_protocol_columns_stand_in_the_table(tmp_path):
    """Two metrics of the same samples: the table's own beside the paper's number, the other in columns."""
    made, metrics, annotations = make_table(tmp_path)
    others = []
    for path, value in zip(metrics, (3.0, 1.5), strict=True):
        score = json.loads(path.read_text()) | {"reference_images": 5}
        legacy, clean = (specs.DetectorSpec("inception", resize=r).protocol() for r in ("legacy", "clean"))
        path.write_text(json.dumps(score | {"metric": "fid"} | legacy))
        others.append(path.with_name(f"{path.stem}-clean.json"))
        two = scores({10: [value - 1, value + 1]})
        others[-1].write_text(json.dumps(score | {"metric": "fid-clean", "scores": two} | clean))
    about = {"reference": "cifar10", "protocol": "strict balanced",
             "paper_protocol": "leaky uniform (clean fraction 0.5)"}
    rows = tuple(dataclasses.replace(row, **about) for row in made.rows)
    made = dataclasses.replace(made, rows=rows, beside=("fid-clean",))
    files = {"metrics": metrics, "annotations": annotations}
    tables_stage.main(made, RECORD, **files, beside=others, out=tmp_path / "t.csv")
    table = pd.read_csv(tmp_path / "t.csv")
    known = inception.INCEPTION_SHA256
    assert table["metric"].eq("fid").all() and list(table["value"]) == [2.0, 1.0]
    assert table["resize"].eq("legacy").all() and list(table["fid-clean"]) == [3.0, 1.5]
    assert list(table["fid-clean_min"]) == [2.0, 0.5]  # the least of its sets of samples, as NVIDIA reports
    assert table["fid-clean_resize"].eq("clean").all() and table["fid-clean_num_samples"].eq(9).all()
    assert table["weights_sha256"].eq(known).all() and table["fid-clean_weights_sha256"].eq(known).all()
    assert table["reference_dataset"].eq("cifar10").all() and table["reference_images"].eq(5).all()
    assert table["protocol"].eq("strict balanced").all()
    assert table["paper_protocol"].eq("leaky uniform (clean fraction 0.5)").all()
    assert tables.rebuild(strict.plain(made), files | {"beside": others}) == (tmp_path / "t.csv").read_text()
    with pytest.raises(ValueError, match="2 score files for 0 other metrics"):
        tables.frame(dataclasses.replace(made, beside=()), metrics, annotations, (), others)
    with pytest.raises(ValueError, match="fid where fid-clean is expected"):
        tables.frame(made, metrics, annotations, (), metrics)


@pytest.mark.parametrize("wrong", [{"resize": "clean"}, {"resize": "none"}, {"weights_sha256": "0" * 64},
                                   {"weights_sha256": None}])
def test_a_table_has_no_fid_that_is_recorded_as_something_else(tmp_path, wrong):
    made, _, annotations = make_table(tmp_path)
    score = {"metric": "fid", "scores": scores({10: [2.0]}), "num_samples": 9, "reference_images": 5}
    good = score | specs.DetectorSpec("inception", resize="legacy").protocol()
    assert tables.row(made.rows[0], [good], {})["metric"] == "fid"
    with pytest.raises(ValueError, match="run a: its score is called fid, but is recorded with"):
        tables.row(made.rows[0], [good | wrong], {})


def test_the_table_says_how_many_images_added_a_row_used(tmp_path):
    made, metrics, _ = make_table(tmp_path)
    noise, files, summaries = specs.NoiseSpec(0.0, 1.0), [], []
    for name, sigma_max in (("unusable", 0.0), ("usable", 1.0)):
        table, corrupted = tmp_path / f"{name}.safetensors", np.arange(10) >= 2
        low, high = np.where(corrupted, np.inf, 0.0), np.where(corrupted, sigma_max, 0.0)
        Annotations(np.arange(10), low, high).write(table)
        summaries.append(table.with_suffix(".json"))
        summaries[-1].write_text(json.dumps(statistics(low, corrupted, high)))
        files.append(table)
    rows = tuple(dataclasses.replace(row, noise=noise, buffer=4.0) for row in made.rows)
    found = tables.frame(dataclasses.replace(made, rows=rows), metrics, summaries, files)
    assert list(found["images_clean"]) == [2, 2] and list(found["images_added"]) == [8, 8]
    assert list(found["images_used"]) == [0, 8]
    assert list(found["levels_used"]) == pytest.approx([0, 0.5])
    assert list(found["draws_used"]) == pytest.approx([0, 0.4])
    alone = tables.frame(made, metrics, summaries)  # from summaries alone: their counts
    assert list(alone["images_used"]) == [0, 8] and "levels_used" not in alone
    with pytest.raises(ValueError, match="1 annotations for 2 rows"):
        tables.frame(made, metrics, summaries, files[:1])


def test_usage_against_every_draw_of_a_training():
    """The shares against counts over many levels, by the rule that training admits images by."""
    random = np.random.default_rng(3)
    clean, count, noise = 5, 40, specs.NoiseSpec(-1.2, 1.2)
    sigma_min = np.r_[np.zeros(clean), random.choice([0.0, 0.3, 1.0, np.inf], count)]
    sigma_max = np.r_[np.zeros(clean), random.choice([0.0, 0.05, 0.4], count)]
    found = usage.usage(sigma_min, sigma_max, clean, noise, Admission(4.0))
    sigma = np.exp(-1.2 + 1.2 * random.standard_normal(200_000))
    admitted = Admission(4.0).admits(torch.from_numpy(sigma)[:, None], torch.from_numpy(sigma_min),
                                      torch.from_numpy(sigma_max)).numpy()
    added = admitted[:, clean:]
    assert found.levels == pytest.approx(added.mean(), abs=0.003)
    assert found.draws == pytest.approx((added.sum(1) / admitted.sum(1)).mean(), abs=0.003)


def test_usage_in_closed_form():
    noise = specs.NoiseSpec(0.0, 1.0)  # half of all levels lie above 1
    above = usage.usage(np.r_[0.0, 0.0, [1.0] * 8], np.zeros(10), 2, noise, Admission())
    assert above.levels == pytest.approx(0.5) and above.draws == pytest.approx(0.5 * 0.8)
    below = usage.usage(np.r_[0.0, 0.0, [np.inf] * 8], np.r_[0.0, 0.0, [1.0] * 8], 2, noise, Admission(4.0))
    assert below.levels == pytest.approx(0.5) and below.draws == pytest.approx(0.4)
    never = usage.usage(np.r_[0.0, [np.inf] * 4], np.zeros(5), 1, noise, Admission(4.0))
    assert (never.levels, never.draws) == (0.0, 0.0)
    always = usage.usage(np.zeros(10), np.zeros(10), 1, noise, Admission(4.0))
    assert always.levels == pytest.approx(1) and always.draws == pytest.approx(0.9)
    assert usage.usage(np.zeros(3), np.zeros(3), 3, noise, Admission(4.0)) == usage.Usage(0.0, 0.0)


def test_best_snapshots_of_seeds_that_differ_are_both_named():
    one, two = scores({100: [5.0], 200: [8.0]}), scores({100: [4.0], 200: [3.0]})
    assert tables.summarise([one, two])["best_nimg"] == "100/200"
