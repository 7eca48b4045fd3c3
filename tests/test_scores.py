"""Scores of images: their file, the kinds that give them, and the stage, which resumes."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import kept

from ambient.data.datasets import Dataset, joined, write
from ambient.data.measures import measure
from ambient.data.scores import Scores, cut
from ambient.evaluation import small_nets
from ambient.evaluation.scorers import legibility
from ambient.jobs import stopping
from ambient.specs import DatasetSpec, ScorerSpec
from ambient.specs.strict import SpecError, plain
from ambient.stages import sample_scores
from ambient.stages import scores as stage
from ambient.storage import arrays
from ambient.storage.files import sha256, write_arrays
from ambient.training import shares

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (30, 1, 32, 32), dtype=np.uint8)
DATA = Dataset(IMAGES, np.arange(30) % 3, np.arange(30) * 3,
               names=joined([f"a/{i:02}.png" for i in range(30)]))
NET = {"features": 8, "channels": 8, "nimg": 64, "batch": 16, "lr": 0.01}


def record():
    return SimpleNamespace(facts={}, external=lambda name, path, origin: sha256(path))


def scored(spec, data, folder, given=None):
    """What the stage writes: the scores, and the text of the table."""
    folder.mkdir(exist_ok=True)
    write(folder / "data.safetensors", data)
    stage.main(spec, record(), data=folder / "data.safetensors", detector=None, given=given,
               state=kept(folder / "state"), out=folder / "s.safetensors", table_out=folder / "s.csv")
    return Scores.read(folder / "s.safetensors"), (folder / "s.csv").read_text()


def test_a_file_of_scores_round_trips_and_is_read_by_id(tmp_path):
    patches = {16: RNG.random((30, 2, 2), np.float32)}
    scores = Scores(DATA.ids, RNG.random(30), {16: RNG.random(30), 4: RNG.random(30)}, patches)
    scores.write(tmp_path / "s.safetensors")
    back = Scores.read(tmp_path / "s.safetensors").of(np.array([9, 3]))
    np.testing.assert_array_equal(back.score, scores.score[[3, 1]])
    np.testing.assert_array_equal(back.patches[16], patches[16][[3, 1]])
    assert list(back.patch_means) == [4, 16]
    for bad, words in (({"score": np.full(30, np.nan)}, "score of image 0 is no finite number .30 such"),
                       ({"ids": np.zeros(30, int)}, "an id is in it twice"),
                       ({"patch_means": {8: np.zeros(29)}}, "patch_mean/8 has 29 rows for 30 images")):
        with pytest.raises(ValueError, match=words):
            Scores(**{"ids": DATA.ids, "score": scores.score} | bad)
    write(tmp_path / "d.safetensors", DATA)
    with pytest.raises(ValueError, match="d.safetensors: not a file of scores"):
        Scores.read(tmp_path / "d.safetensors")


def test_scores_of_very_many_patches_are_read_when_they_are_asked_for(tmp_path, monkeypatch):
    """Of ImageNet they are 1.7 GB, which most readers of scores have no use for."""
    monkeypatch.setattr(arrays, "HELD", 100)
    patches, read, taken = {16: RNG.random((30, 2, 2), np.float32)}, [], arrays.Stored.rows
    Scores(DATA.ids, RNG.random(30), {16: RNG.random(30)}, patches).write(tmp_path / "s")
    monkeypatch.setattr(arrays.Stored, "rows", lambda self, index: (
        read.append((self.shape, len(index))), taken(self, index))[1])
    found = Scores.read(tmp_path / "s").of(DATA.ids[[3, 1]])
    assert not [one for one in read if one[0] == (30, 2, 2)]
    np.testing.assert_array_equal(np.asarray(found.patches[16]), patches[16][[3, 1]])
    assert read[-1] == ((30, 2, 2), 2)


def test_patches_do_not_overlap_and_cover_the_image():
    image = np.arange(3 * 4 * 6).reshape(3, 4, 6)
    parts = cut(image, 2)
    assert parts.shape == (2, 3, 3, 2, 2)
    np.testing.assert_array_equal(parts[1, 2], image[:, 2:4, 4:6])
    with pytest.raises(ValueError, match="patches of 4 pixels do not cover an image of 6x4 pixels"):
        cut(image, 4)


def test_a_measure_scores_images_and_each_of_their_patches(tmp_path):
    spec = ScorerSpec(kind="measure", measure="contrast", patches=(16,))
    found, text = scored(spec, DATA, tmp_path)
    of = measure("contrast")
    np.testing.assert_array_equal(found.score, [of(image) for image in IMAGES])
    each = np.array([[of(IMAGES[7][:, y:y + 16, x:x + 16]) for x in (0, 16)] for y in (0, 16)])
    np.testing.assert_allclose(found.patches[16][7], each, rtol=1e-6)
    assert found.patch_means[16][7] == pytest.approx(each.mean())
    lines = text.splitlines()
    assert lines[0] == "id,name,label,score,patches-16" and lines[8].startswith("21,a/07.png,1,")


def test_a_kill_costs_the_shard_at_work(tmp_path, monkeypatch):
    monkeypatch.setattr(ScorerSpec, "SHARD", 8)
    spec, calls = ScorerSpec(kind="measure", measure="exposure"), []
    whole, _ = scored(spec, DATA, tmp_path / "a")
    stage_scorer = stage.scorers.KINDS["measure"].scorer

    def dying(spec, given):
        score = stage_scorer(spec, given)

        def of(images):
            calls.append(len(images))
            if len(calls) == 3:
                raise KeyboardInterrupt
            return score(images)

        return of

    monkeypatch.setattr(stage.scorers.KINDS["measure"], "scorer", dying)
    with pytest.raises(KeyboardInterrupt):
        scored(spec, DATA, tmp_path / "b")
    again, _ = scored(spec, DATA, tmp_path / "b")
    assert calls == [8, 8, 8, 8, 6]
    np.testing.assert_array_equal(again.score, whole.score)
    assert (tmp_path / "a/s.safetensors").read_bytes() == (tmp_path / "b/s.safetensors").read_bytes()


@pytest.mark.parametrize(("given", "said"), [
    (np.zeros(30), r"a ndarray for 30 images, allowed: a dict of arrays, 'score' \(30,\) among them$"),
    (None, "a NoneType for 30 images, allowed: a dict"),
    ({"scores": np.zeros(30)}, r"a dict of \['scores'\] for 30 images, allowed: .* 'score'"),
    ({"score": np.zeros((30, 1))}, r"'score' as an array \(30, 1\) for 30 images, allowed: .* \(30,\)$"),
    ({"score": np.zeros(29)}, r"'score' as an array \(29,\) for 30 images"),
    ({"score": [0.0] * 30}, "'score' as a list for 30 images"),
    ({"score": np.where(np.arange(30) == 7, np.nan, 0)},
     "'score' of row 7 of 30 with NaN or infinity, allowed: finite numbers$"),
    ({"score": np.zeros(30), "patches/16": np.full((30, 2, 2), np.inf)}, "'patches/16' of row 0 of 30"),
    ({"score": np.zeros(30), "patches/16": np.zeros((30, 4))},
     r"'patches/16' as an array \(30, 4\) for 30 images, allowed: an array \(30, rows, columns\)$")])
def test_what_a_scorer_gives_is_refused_by_its_file(given, said, tmp_path, monkeypatch):
    folder = "^ambient/evaluation/scorers/"
    monkeypatch.setattr(stage.scorers.KINDS["measure"], "scorer", lambda spec, file: lambda images: given)
    spec = ScorerSpec(kind="measure", measure="contrast")
    with pytest.raises(ValueError, match=f"{folder}measure.py: scorer gave {said}"):
        scored(spec, DATA, tmp_path / "a")
    write_arrays(tmp_path / "samples", {"1": IMAGES[None]})
    with pytest.raises(ValueError, match=f"{folder}measure.py: scorer gave {said}"):
        sample_scores.main(spec, record(), samples=tmp_path / "samples", detector=None, given=None,
                           state=kept(tmp_path / "s"), out=tmp_path / "out")
    monkeypatch.setattr(stage.scorers.KINDS["table"], "score", lambda spec, data, file, state: given)
    path, spec = table("q,id\n", tmp_path)
    with pytest.raises(ValueError, match=f"{folder}table.py: score gave {said}"):
        scored(spec, DATA, tmp_path / "b", path)


# --- a table of one's own -------------------------------------------------------------------------


def table(text, folder, **settings):
    path = folder / "own.csv"
    path.write_text(text)
    return path, ScorerSpec(kind="table", column="q", **settings)


def test_the_rows_of_a_table_are_matched_by_name_or_id_in_any_order(tmp_path):
    order = RNG.permutation(40)
    value = RNG.random(40).tolist()
    for title, key in (("Image", lambda i: f"{i:02}.png"), ("path", lambda i: f"x/a/{i:02}.png"),
                       ("ID", lambda i: i * 3)):
        rows = [f"{value[i]!r},{key(i)},{-value[i]}" for i in order.tolist()]
        path, spec = table("\n".join([f"q,{title},p-8", *rows]), tmp_path, patches=(8,),
                           patch_column="p-{px}")
        found, _ = scored(spec, DATA, tmp_path / title, path)
        np.testing.assert_array_equal(found.score, value[:30])
        np.testing.assert_array_equal(found.patch_means[8], np.negative(value[:30]))
        assert not found.patches


def test_a_table_that_the_stage_wrote_is_read_back_exactly(tmp_path):
    first, text = scored(ScorerSpec(kind="measure", measure="contrast", patches=(16,)), DATA, tmp_path / "a")
    path, _ = table(text, tmp_path)
    spec = ScorerSpec(kind="table", column="score", patches=(16,), patch_column="patches-{px}")
    second, again = scored(spec, DATA, tmp_path / "b", path)
    np.testing.assert_array_equal(first.score, second.score)
    assert text == again


@pytest.mark.parametrize(("text", "words"), [
    ("q,id\n1,0\n2,0", "line 3: a second row of '0'"), ("q,id\n1,0", "no score for sample 3 .29 missing."),
    ("q,id\n,0", "line 2: q is '', allowed: a finite number"), ("q,id\nnan,0", "line 2: q is 'nan'"),
    ("r,id\n1,0", "its columns are r, id; allowed: 'q', and one of id, name"), ("q,id\n", "has no rows"),
    ("q,x\n1,0", "allowed: 'q', and one of id"), ("q,id\n1,a", "an id is no whole number"),
    ("q,name\n1,01.png", "has no row for the image a/00.png"),
    ("q,name\n1,x/a/00.png\n2,y/a/00.png", "several rows, x/a/00.png, y/a/00.png, for the image a/00.png")])
def test_what_is_wrong_with_a_table_is_named(text, words, tmp_path):
    path, spec = table(text, tmp_path)
    with pytest.raises(ValueError, match=words):
        scored(spec, DATA, tmp_path / "x", path)


def test_a_table_needs_ids_where_images_have_no_names_and_is_pinned(tmp_path):
    path, spec = table("q,name\n1,a\n", tmp_path)
    with pytest.raises(ValueError, match="this dataset keeps none; give the table a column `id`"):
        scored(spec, Dataset(IMAGES, DATA.labels, DATA.ids), tmp_path / "x", path)
    named = ScorerSpec(kind="table", column="q", path=str(path)).portable()
    assert named.path is None and named.sha256 == sha256(path)
    path.write_text("q,name\n2,a\n")
    with pytest.raises(ValueError, match="the configuration's sha256 is"):
        scored(named, DATA, tmp_path / "x", path)
    with pytest.raises(ValueError, match="needs --given, a table of scores"):
        scored(spec, DATA, tmp_path / "x")
    with pytest.raises(ValueError, match="reads no such file"):
        scored(ScorerSpec(kind="measure", measure="noise"), DATA, tmp_path / "x", path)


# --- legibility -----------------------------------------------------------------------------------


def test_the_margin_is_the_label_against_the_likeliest_other_class():
    log_p = np.log([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]])
    np.testing.assert_allclose(legibility.margins(log_p, np.array([0, 2])),
                               [np.log(0.5 / 0.3), np.log(0.3 / 0.6)])


def test_a_network_learns_nothing_from_the_images_that_it_scores():
    """Its gradient is what it is without them; and two halves of a batch give the mean of their gradients."""
    spec = ScorerSpec(kind="legibility", folds=3, **NET)
    networks, folds = spec.networks(), legibility.folds_of(spec, DATA.ids)
    assert np.bincount(folds).tolist() == [np.sum(folds == k) for k in range(3)] and len(set(folds)) == 3
    network = small_nets.build(networks, 1, 3)

    def gradients(images, share=shares.WHOLE):
        network.zero_grad()
        small_nets.FoldBatches(networks, network, images, DATA.labels, folds)(0, share).backward()
        return [torch.cat([w.grad.flatten() for w in member.parameters()]) for member in network.members]

    whole, other = gradients(IMAGES), IMAGES.copy()
    other[folds == 1] = 255 - other[folds == 1]
    changed = gradients(other)
    assert torch.equal(whole[1], changed[1])
    assert not torch.allclose(whole[0], changed[0]) and not torch.allclose(whole[2], changed[2])
    halves = [gradients(IMAGES, shares.Share(number, 2)) for number in range(2)]
    for one, first, second in zip(whole, *halves, strict=True):
        np.testing.assert_allclose(one, (first + second) / 2, atol=1e-2 * one.abs().max())


def test_legibility_tells_images_whose_label_is_wrong(tmp_path, capfd):
    """Classes are bright and dark; an image with the other's label scores lowest, by who has not seen it."""
    labels = np.arange(200) % 2
    images = (40 + 150 * labels[:, None, None, None] + RNG.integers(0, 40, (200, 1, 16, 16))).astype(np.uint8)
    wrong = np.array([5, 60, 123])
    labels[wrong] = 1 - labels[wrong]
    spec = ScorerSpec(kind="legibility", folds=2, **NET | {"nimg": 640, "batch": 64})
    found, _ = scored(spec, Dataset(images, labels, np.arange(200)), tmp_path)
    assert set(np.argsort(found.score)[:3]) == set(wrong) and (found.score[wrong] < 0).all()
    assert "the networks tell 98.5% of the images right" in capfd.readouterr().err


def test_a_patch_is_as_legible_as_its_image_with_all_else_black(tmp_path):
    spec = ScorerSpec(kind="legibility", folds=2, patches=(16,), **NET)
    (found, text), (without, _) = (scored(one, DATA, tmp_path / name) for one, name in (
        (spec, "patches"), (ScorerSpec(kind="legibility", folds=2, **NET), "none")))
    np.testing.assert_array_equal(found.score, without.score)  # what the networks learn is the same
    assert found.patches[16].shape == (30, 2, 2) and "patches-16" in text
    shown = legibility.alone(IMAGES, 16, (1, 0))
    np.testing.assert_array_equal(shown[:, :, 16:, :16], IMAGES[:, :, 16:, :16])
    assert shown.any(axis=(1, 2, 3)).all() and not shown[:, :, :16].any() and not shown[..., 16:].any()
    whole = dataclasses.replace(spec, patches=(32,))
    found, _ = scored(whole, DATA, tmp_path / "whole")
    np.testing.assert_allclose(found.patches[32][:, 0, 0], found.score, rtol=1e-6)
    assert "patches" not in plain(ScorerSpec(kind="legibility", folds=2, **NET))
    with pytest.raises(SpecError, match="patches: got .12,., allowed: sides that divide the images"):
        dataclasses.replace(spec, patches=(12,)).check(
            DatasetSpec(source="mnist", resolution=32, channels=1, padding=2))


def test_images_without_classes_have_no_legibility(tmp_path):
    spec = ScorerSpec(kind="legibility", **NET)
    with pytest.raises(ValueError, match="needs a dataset with classes"):
        scored(spec, Dataset(IMAGES, np.full(30, -1), DATA.ids), tmp_path)
    with pytest.raises(SpecError, match="kind: got 'legibility', allowed: one for images without classes"):
        spec.check(DatasetSpec("mnist", 32, 1, classes=(3,)))


@pytest.mark.parametrize(("settings", "words"), [
    ({"kind": "measure", "measure": "sharp"}, "measure: got 'sharp', allowed: blockiness, contrast"),
    ({"kind": "measure", "measure": "noise", "patches": (8,)}, "patches: .* at least 16 pixels"),
    ({"kind": "measure", "measure": "noise", "path": "x"}, "path: got 'x', allowed: null"),
    ({"kind": "table", "column": "a", "patches": (8,)}, "patch_column: got None"),
    ({"kind": "table", "column": "a", "patches": (8,), "patch_column": "b"}, "with .px. in it"),
    ({"kind": "legibility", **NET | {"batch": 17}}, "nimg: got 64, allowed: a multiple of batch = 17"),
    ({"kind": "legibility", "folds": 1, **NET}, "folds: got 1, allowed: >= 2")])
def test_settings_of_scorers_have_their_ranges(settings, words):
    with pytest.raises(SpecError, match=words):
        ScorerSpec(**settings)


def test_images_that_a_measure_can_not_take_are_refused_before_a_job_runs():
    for resolution, patches, words in ((8, (), "images of 8 pixels"),
                                       (40, (16,), "divide the images' 40 pixels")):
        with pytest.raises(SpecError, match=words):
            ScorerSpec(kind="measure", measure="noise", patches=patches).check(
                DatasetSpec("mnist", resolution, 1))


def test_a_stop_leaves_with_the_status_of_one_who_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(stopping, "reason", lambda: "SIGTERM")
    with pytest.raises(SystemExit) as left:
        scored(ScorerSpec(kind="measure", measure="noise"), DATA, tmp_path)
    assert left.value.code == stopping.RESUME
    assert "path" in plain(ScorerSpec(kind="measure", measure="noise"))
