"""What known images score: held-out good ones, bad ones, and both as they are mixed."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_report import Page
from tiny import RECORD, kept

from ambient.data.datasets import Dataset, read, write
from ambient.diffusion import randomness
from ambient.evaluation import landmarks, small_nets
from ambient.evaluation.features import extract
from ambient.evaluation.frechet import moments
from ambient.provenance.manifest import path_for
from ambient.report import findings
from ambient.report import page as report
from ambient.settings import Experiments
from ambient.settings.graph import Graph
from ambient.specs import DetectorSpec, LandmarksSpec, ReportSpec, TableSpec
from ambient.specs.strict import build
from ambient.stages import landmarks as stage
from ambient.storage.files import read_json
from tests.clones import configuration

ROOT = Path(__file__).parents[1]
NET = DetectorSpec(kind="classifier", features=1, channels=8, nimg=8, batch=8, lr=0.1)


def known(count, draws=2):
    return LandmarksSpec("fd-net", NET, count, draws)


def rows(spec, good, bad, share):
    """The table of features (N, D) of good images and (M, D) of bad ones."""
    picked = landmarks.drawn(spec, len(good), len(bad))
    return landmarks.rows(spec, moments(good), [(good[held], bad[worse]) for held, worse in picked], share)


def test_distances_of_constant_features_have_a_closed_form():
    """All good images at 0, all bad ones at d = 3: a mixture of which half is bad has mean d / 2 and the
    variance n / (n - 1) d^2 / 4, and both enter the distance to the others, which have none."""
    table = rows(known(8), np.zeros((40, 1)), np.full((30, 1), 3.0), 0.5).set_index("images")
    assert list(table.index) == [landmarks.GOOD, landmarks.MIXED, landmarks.BAD]
    np.testing.assert_allclose(table["value"], [0, 9 / 4 + 8 / 7 * 9 / 4, 9], atol=1e-12)
    np.testing.assert_allclose(table["value_std"], 0, atol=1e-12)
    assert list(table["num_images"]) == [8, 8, 8] and set(table["reference_images"]) == {32}
    assert set(table["metric"]) == {"fd-net"} and set(table["draws"]) == {2}


def test_held_out_images_are_compared_with_all_others_and_never_with_themselves():
    good = np.arange(10.0)[:, None] ** 2
    values = []
    for draw in range(2):
        order = randomness.numpy_generator("landmarks", 0, draw).permutation(10)
        held, rest = good[order[:5], 0], good[order[5:], 0]
        values.append((held.mean() - rest.mean()) ** 2 + (held.std(ddof=1) - rest.std(ddof=1)) ** 2)
    row = rows(known(100), good, good[:1], 0.1).iloc[0]
    assert (row["num_images"], row["reference_images"]) == (5, 5)  # half of them, where 100 are asked for
    np.testing.assert_allclose([row["value"], row["value_std"]], [np.mean(values), np.std(values, ddof=1)])


def test_a_set_of_few_bad_images_says_how_many_they_are():
    rng = np.random.default_rng(0)
    good, bad = rng.normal(size=(40, 3)), 5 + rng.normal(size=(6, 3))
    table = rows(known(12), good, bad, 0.75).set_index("images")
    # All six bad images, and two good ones, which make three quarters bad.
    assert list(table["num_images"]) == [12, 8, 6] and set(table["reference_images"]) == {28}
    assert table["value"].is_monotonic_increasing and table["value"].iloc[0] < 1 < table["value"].iloc[1]


def test_the_stage_writes_what_good_and_bad_images_of_a_mixture_score(mixture, tmp_path):
    spec = LandmarksSpec("fd-net", dataclasses.replace(NET, features=4), 30, 3)
    small_nets.save(tmp_path / "net", small_nets.build(spec.detector, 1, 2))  # any features will do
    mixed = read(mixture)
    write(tmp_path / "clean", Dataset(mixed.images[:20], mixed.labels[:20], mixed.ids[:20]))
    files = {"mixture": mixture, "detector": tmp_path / "net", "state": kept(tmp_path / "state"),
             "out": tmp_path / "l.csv"}
    stage.main(spec, RECORD, data=tmp_path / "clean", **files)
    features = extract(spec.detector, tmp_path / "net", mixed.images)
    expected = rows(spec, features[:20], features[20:], 40 / 60)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "l.csv"), expected, rtol=1e-5)
    assert list(expected["num_images"]) == [10, 10, 10] and RECORD.facts["bad_images"] == 40
    write(tmp_path / "few", Dataset(mixed.images[:3], mixed.labels[:3], mixed.ids[:3]))
    with pytest.raises(ValueError, match="has 3 images, landmarks need 4 or more"):
        stage.main(spec, RECORD, data=tmp_path / "few", **files)
    with pytest.raises(ValueError, match="fewer than 2 corrupted images"):
        stage.main(spec, RECORD, data=tmp_path / "clean", **files | {"mixture": tmp_path / "clean"})


@pytest.mark.parametrize("wrong", [{"num_samples": 1}, {"draws": 1}])
def test_landmarks_that_have_no_spread_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        dataclasses.replace(known(8), **wrong)


def graph(folder, table):
    """The jobs of a scale that is the demo but for one line on its main table."""
    configuration(folder)
    (folder / "scales/mine.yaml").write_text(f"{{extends: demo, tables: {{table2a: {table}}}}}")
    return Graph(Experiments(folder, "mine"))


def test_a_table_asks_for_the_landmarks_of_each_of_its_mixtures(tmp_path):
    """By one key of the table; without it nothing of the page changes."""
    asked, without = graph(tmp_path / "a", "{landmarks: true}"), graph(tmp_path / "b", "{}")
    page, = (job for job in asked.behind(["results/mine/report.html"]) if job.kind == "report")
    path = "results/mine/landmarks/controlled/blur-0.6/digitnet.csv"
    assert asked.reads(page)["landmarks"] == [path] and "landmarks" not in without.reads(page)
    job = asked.maker(path)
    here = "results/mine"
    assert asked.reads(job) == {"data": [f"{here}/data/digits.safetensors"],
                                "mixture": [f"{here}/mixtures/controlled/blur-0.6/clean-0.008.safetensors"],
                                "detector": [f"{here}/detectors/digits/digitnet.weights"]}
    spec = asked.asks(job)
    assert (spec.metric, spec.num_samples) == ("fd-digitnet", 1000)


@pytest.mark.parametrize(("bad", "said"), [(5.1, "sees"), (4.9, "hardly sees"), (1.0, "hardly sees")])
def test_a_sentence_says_whether_the_distance_sees_the_faults(bad, said):
    """Good images score 3 with a standard deviation of 1, the bad ones have one of 2."""
    known = pd.DataFrame({"images": [landmarks.BAD, landmarks.MIXED, landmarks.GOOD], "value": [bad, 4, 3],
                          "value_std": [2.0, 9.0, 1.0]})
    found = findings.seen("dark", known)
    assert found.startswith(f"The distance {said} the faults of the bad images (dark): they score {bad:.3g} "
                            "± 2 where good ones that are held out score 3 ± 1.")
    assert ("Look at the samples" in found) == (said == "hardly sees")


def test_the_page_shows_what_known_images_score(original, tmp_path):
    spec = build(TableSpec, read_json(path_for(original / "t.csv"))["spec"], "spec")
    spec = dataclasses.replace(spec, landmarks=("blur, 0.6 px",))
    file = tmp_path / "net.csv"
    table = rows(known(8), np.zeros((40, 1)), np.full((30, 1), 3.0), 0.5)
    table.to_csv(file, index=False)
    pictures = [original / f"t{part}.png" for part in report.PICTURES]
    text = report.page(ReportSpec("tiny", (spec,), ()), [original / "t.csv"], pictures, [3], [file])
    page = Page(text)
    assert "What known images score: blur, 0.6 px" in [title for *_, title in page.all("h3")]
    cells = [cell for *_, cell in page.all("th", "td")]
    first = cells.index(landmarks.BAD)
    assert cells[first:first + 6] == [landmarks.BAD, "fd-net", "9.00", "0.00", "8", "32"]
    assert ("The distance sees the faults of the bad images (blur, 0.6 px): they score 9 ± 0 where good ones "
            "that are held out score 0 ± 0.") in [said for *_, said in page.all("li")]
    plain = report.page(dataclasses.replace(ReportSpec("tiny", (spec,), ()), tables=(
        dataclasses.replace(spec, landmarks=()),)), [original / "t.csv"], pictures, [3])
    assert "known images" not in plain
    assert pd.read_csv(file)["value"].iloc[-1] == 9
