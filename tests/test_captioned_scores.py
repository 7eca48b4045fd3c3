"""Scores of samples with captions: what is seen in a scene, verdicts, diversity, and their columns."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ambient.data import prompt_forms, scenes, shapes, sources
from ambient.data.datasets import Dataset, write
from ambient.data.texts import Texts
from ambient.evaluation import captioned, scene_objects
from ambient.evaluation.geneval import TASKS, Detection
from ambient.evaluation.scorers import KINDS, clip_score, geneval
from ambient.evaluation.scorers.vendi import Diversity
from ambient.jobs.identity import Identity
from ambient.jobs.state import State
from ambient.report.preferences import columns
from ambient.specs import DatasetSpec, ScorerSpec
from ambient.specs.strict import SpecError
from ambient.stages import sample_scores
from ambient.storage.files import read_arrays, write_arrays
from ambient.training import text_encoding

SPEC = DatasetSpec("scenes", 32, 3, num_images=60)
PLANNED = [scenes.plan(SPEC, i) for i in range(60)]
IMAGES = scenes.paint(SPEC, PLANNED)


def test_parts_of_a_scene_are_its_shapes():
    """As many, each in its cell with the box of its pixels, and of its colour."""
    colours = list(shapes.COLOURS)
    for image, scene in zip(IMAGES, PLANNED, strict=True):
        found = {}
        for part in scene_objects.parts(image):
            x0, y0, x1, y1 = part.box
            rows, columns = np.nonzero(part.mask)
            assert (columns.min(), rows.min(), columns.max(), rows.max()) == part.box
            found[y0 // 16 * 2 + x0 // 16] = scene_objects.colour_of(image, part)
            assert (y0 // 16, x0 // 16) == (y1 // 16, x1 // 16)
        assert found == {one.cell: colours[one.colour] for one in scene.shapes}


def test_specks_are_no_parts_and_what_touches_at_a_corner_is_one():
    image = np.full((3, 32, 32), shapes.GREY, np.uint8)
    image[:, 2:4, 2:4] = 255
    assert scene_objects.parts(image) == []
    image[0, 8:12, 8:12] = 255
    image[1, 12:16, 12:16] = 0
    only, = scene_objects.parts(image)
    assert only.box == (8, 8, 15, 15) and only.mask.sum() == 32


def test_a_window_has_the_part_alone_in_its_middle():
    image = np.full((3, 32, 32), shapes.GREY, np.uint8)
    image[:, 4:8, 10:16] = 7  # 4 rows and 6 columns
    image[:, 20:30, 2:30] = 200  # another part
    small, large = scene_objects.parts(image)
    cut = scene_objects.window(image, small, 16)
    expected = np.full((16, 16), shapes.GREY)
    expected[6:10, 5:11] = 7
    np.testing.assert_array_equal(cut, np.stack([expected] * 3))
    reduced = scene_objects.window(image, large, 14)  # 28 columns to 14
    assert reduced.shape == (3, 14, 14) and (reduced[:, 5:9] == 200).all() and (reduced[:, :4] == 128).all()


def seen(scene, surely, beside=()):
    """The detections of what a scene shows, and false ones."""
    found = {}
    for one in scene.shapes:
        y, x = divmod(one.cell, 2)
        box = (16.0 * x, 16.0 * y, 16.0 * x + 13, 16.0 * y + 13)
        found.setdefault(shapes.SHAPES[one.kind], []).append(
            Detection(box, surely, list(shapes.COLOURS)[one.colour]))
    for name, score in beside:
        found.setdefault(name, []).append(Detection((0.0, 0.0, 5.0, 5.0), score, "red"))
    return found


class Known:
    """In the place of a detector: it sees all shapes with score 0.7, and false ones with 0.35."""

    def __init__(self, planned):
        self.of = {image.tobytes(): scene for image, scene in zip(IMAGES, planned, strict=True)}

    names = shapes.SHAPES

    def __call__(self, images, asked=()):
        return [seen(scene, 0.7, [(shapes.SHAPES[scene.shapes[0].kind], 0.35)])
                for scene in (self.of[image.tobytes()] for image in images)]


@pytest.fixture
def real(tmp_path):
    captions = Texts.of([scene.caption for scene in PLANNED])
    data = Dataset(IMAGES, np.zeros(60, int), np.arange(60), captions=captions)
    write(tmp_path / "real.safetensors", data)
    return tmp_path / "real.safetensors"


def test_the_threshold_is_chosen_on_real_images(real):
    """False detections of score 0.35 spoil counting alone; true ones have 0.7."""
    found = geneval.Verdicts(Known(PLANNED), real)
    assert found.rules.score == found.rules.score_counting == 0.65
    assert found.real["score"].tolist() == [1.0] * 30
    counting = [k for k, scene in enumerate(PLANNED) if scene.asked["tag"] == "counting"]
    asked, objects = found.asked([scene.caption for scene in PLANNED]), Known(PLANNED)(IMAGES)
    low = geneval.right(asked, objects, geneval.one_threshold(0.3))
    assert np.flatnonzero(~low).tolist() == counting
    published = geneval.Verdicts(Known(PLANNED), None)
    wrong = published(IMAGES, [scene.caption for scene in PLANNED])
    assert published.real == {} and np.flatnonzero(wrong["score"] == 0).tolist() == counting  # 0.9 there
    above = wrong["threshold"]
    assert set(above[counting]) == {0.9} and set(np.delete(above, counting)) == {0.3}


def test_real_images_are_scored_some_at_a_time(real, monkeypatch):
    """The last part has others' number: 60 images, 7 at a time."""
    detector, sizes = Known(PLANNED), []

    def counted(images, asked):
        sizes.append(len(images))
        return detector(images, asked)

    counted.names = detector.names
    whole = geneval.Verdicts(detector, real)
    monkeypatch.setattr(captioned, "TOGETHER", 7)
    parts = geneval.Verdicts(counted, real)
    assert sizes == [7] * 8 + [4] and parts.rules == whole.rules
    assert all((parts.real[name] == whole.real[name]).all() for name in whole.real)
    model = SimpleNamespace(coder=SimpleNamespace(cosines=lambda images, texts: images.mean(axis=(1, 2, 3))))
    monkeypatch.setattr(text_encoding, "TextEncoder", lambda given, where: model)
    scored = clip_score.scorer(None, Path("m"), real).real["score"]
    np.testing.assert_array_equal(scored, IMAGES.mean(axis=(1, 2, 3)))


def test_verdicts_are_those_on_the_captions_that_samples_have(real):
    found = geneval.Verdicts(Known(PLANNED), real)
    captions = [scene.caption for scene in PLANNED]
    assert found(IMAGES, captions)["score"].all()
    turned = captions[1:] + captions[:1]
    wrong = found(IMAGES, turned)
    expected = [scene.caption == other for scene, other in zip(PLANNED, turned, strict=True)]
    assert wrong["score"].sum() <= 6 and (wrong["score"] >= expected).all()
    asked = [prompt_forms.understood(caption, shapes.SHAPES)["tag"] for caption in turned]
    assert [TASKS[k] for k in wrong["task"]] == asked
    assert found.remarks(wrong) == []
    nothing = found.judged(found.asked(captions), [{}] * 60)
    said = found.remarks(nothing)
    assert len(said) == 6 and said[0].startswith("geneval: 0 objects an image of single_object were detected")


def test_diversity_is_of_each_captions_samples_alone():
    """Groups of three: equal, orthogonal, and two of them equal: exp(-(2/3 ln 2/3 + 1/3 ln 1/3))."""
    e = np.eye(3)
    rows = torch.tensor(np.concatenate([e[[0, 0, 0]], e, e[[0, 0, 1]]]))
    found = Diversity(lambda images: rows, 3)(np.zeros((9, 1, 2, 2), np.uint8), [""] * 9)
    middle = np.exp(-(2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3)))
    np.testing.assert_allclose(found["score"], [1, 3, middle], rtol=1e-9)
    assert found["of"].tolist() == [3, 3, 3]
    spec = ScorerSpec("vendi", detector="d")
    for each, count in ((1, 8), (3, 8)):
        with pytest.raises(SpecError, match=f"each: got {each}"):
            spec.check_samples(each, count)
    spec.check_samples(4, 8)
    assert [ScorerSpec("vendi", detector="d", each=n).shard for n in (1, 16, 1500)] == [1000, 992, 1500]


def test_the_stage_gives_each_sample_its_own_caption(tmp_path, real, monkeypatch):
    """Two seeds of six samples, three of a caption: samples 0 to 2 have the first, 3 to 5 the second."""
    asked = []

    class Scorer:
        real = {"score": np.array([0.5])}

        def __call__(self, images, captions):
            asked.extend(captions)
            return {"score": images[:, 0, 0, 0].astype(float), "task": np.arange(len(images))}

        def remarks(self, found):
            return ["a remark"]

    monkeypatch.setattr(KINDS["clip_score"], "scorer", lambda spec, given, real: Scorer())
    images = np.arange(12).reshape(2, 6, 1, 1, 1).repeat(3, axis=2).astype(np.uint8)
    write_arrays(tmp_path / "samples.safetensors", {"8": images[:, :3], "16": images})
    record = SimpleNamespace(facts={})
    state = State(tmp_path / "s", Identity("sample_scores", {}))
    sample_scores.main(ScorerSpec("clip_score", model="m", each=3), record, detector=None, given=None,
                       samples=tmp_path / "samples.safetensors", out=tmp_path / "out.safetensors",
                       captions=real, model=Path("m"), state=state)
    first, second = PLANNED[0].caption, PLANNED[1].caption
    assert asked == ([first] * 3 + [second] * 3) * 2
    found = read_arrays(tmp_path / "out.safetensors")
    np.testing.assert_array_equal(found["score"], np.arange(12.0).reshape(2, 6))
    assert found["prompt"].tolist() == [[0, 0, 0, 1, 1, 1]] * 2
    assert found["task"].shape == (2, 6) and found["real_score"].tolist() == [0.5]


def test_columns_of_verdicts_are_shares_of_tasks(tmp_path):
    """Two tasks, of 4 and of 6 images over two training seeds: their mean is not that of all images."""
    real = {"real_score": np.array([1.0, 0.0]), "real_task": np.array([0, 2])}
    for seed, score in enumerate(([1.0, 1, 0, 0, 0], [1.0, 0, 1, 1, 0])):
        write_arrays(tmp_path / f"{seed}.safetensors", real | {
            "score": np.array([score]), "task": np.array([[0, 0, 2, 2, 2]]),
            "objects": np.full((1, 5), seed + 1), "threshold": np.array([[0.3, 0.3, 0.9, 0.9, 0.9]])})
    files = [tmp_path / f"{seed}.safetensors" for seed in (0, 1)]
    found = columns("g", files, files[:1])
    assert found["g_single_object"] == 0.75 and found["g_counting"] == pytest.approx(2 / 6)
    assert found["g_overall"] == pytest.approx((0.75 + 1 / 3) / 2)
    assert found["g_single_object_se"] == pytest.approx(np.sqrt(0.75 * 0.25 / 4))
    assert [found[f"g_{name}_real"] for name in ("single_object", "counting", "overall")] == [1.0, 0.0, 0.5]
    assert (found["g_threshold"], found["g_threshold_counting"], found["g_objects"]) == (0.3, 0.9, 1.5)
    overall = [(1 + 0) / 2, (0.5 + 2 / 3) / 2]  # of the two training seeds, each by itself
    assert found["g_training_std"] == pytest.approx(np.std(overall, ddof=1))
    assert found["g_single_object_training_std"] == pytest.approx(np.std([1.0, 0.5], ddof=1))
    assert found["g_counting_training_std"] == pytest.approx(np.std([0.0, 2 / 3], ddof=1))
    assert "g_training_std" not in columns("g", files[:1], files[:1])


def test_standard_errors_of_tasks_are_over_prompts(tmp_path):
    """Images of a prompt are alike: with 4 each, of prompts that are right always or never, the error is that
    of as many single images. It is the spread that the share has when the prompts are drawn again."""
    draw = np.random.default_rng(0)
    prompt = np.repeat(np.arange(150), 4)  # 100 prompts of one task, 50 of another
    task = np.where(prompt < 100, 1, 4)

    def file(name, right, seeds=1):
        one = {"score": right, "task": task, "prompt": prompt, "objects": np.ones(600),
               "threshold": np.full(600, 0.3)}
        write_arrays(tmp_path / name, {key: np.tile(values, (seeds, 1)) for key, values in one.items()})
        return columns("g", [tmp_path / name], [tmp_path / name])

    always = np.repeat((draw.random(150) < 0.4).astype(float), 4)
    found, seeds = file("a", always), file("b", always, 2)  # two sampling seeds tell nothing new of a prompt
    for name, number in (("two_object", 1), ("position", 4)):
        p, m = always[task == number].mean(), (task == number).sum() / 4
        assert found[f"g_{name}_se"] == pytest.approx(np.sqrt(p * (1 - p) / (m - 1)))
        assert seeds[f"g_{name}_se"] == pytest.approx(found[f"g_{name}_se"])
    both = [found["g_two_object_se"], found["g_position_se"]]
    assert found["g_overall_se"] == pytest.approx(np.sqrt(np.square(both).sum()) / 2)

    again = []
    for _ in range(200):
        chance = draw.beta(0.5, 1.0, 150)  # of each prompt
        again.append(file("c", (draw.random(600) < chance[prompt]).astype(float)))
    for name in ("two_object", "position", "overall"):
        spread = np.std([one[f"g_{name}"] for one in again], ddof=1)
        assert np.mean([one[f"g_{name}_se"] for one in again]) == pytest.approx(spread, rel=0.2)


def test_columns_of_groups_have_their_spread(tmp_path):
    write_arrays(tmp_path / "a.safetensors", {"score": np.array([[1.0, 3.0]]), "of": np.array([[4, 4]]),
                                              "real_score": np.array([2.0, 2.5])})
    found = columns("v", [tmp_path / "a.safetensors"], [tmp_path / "a.safetensors"])
    std = pytest.approx(2**0.5)
    assert found == {"v_mean": 2.0, "v_median": 2.0, "v_std": std, "v_of": 4.0, "v_real": 2.25}
    write_arrays(tmp_path / "b.safetensors", {"score": np.array([[6.0, 6.0]]), "of": np.array([[4, 4]])})
    both = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    assert columns("v", both, both)["v_training_std"] == pytest.approx(8**0.5)  # of 2 and 6


def test_a_model_of_both_scores_and_measures(tmp_path):
    """The cosine of the model's own features, and the features themselves, by the file of a text encoder."""
    from ambient.evaluation import detectors
    from ambient.specs import DetectorSpec, TextEncoderSpec
    from ambient.specs.strict import plain
    from ambient.training import text_encoders
    from ambient.training.weights import save_weights

    spec = TextEncoderSpec("contrastive", nimg=64, batch=64, channels=16, image_channels=8, features=12,
                           layers=1)
    words = sorted({word for scene in PLANNED for word in scene.caption.split()})
    model = text_encoders.KINDS["contrastive"].build(spec, {"channels": 3, "vocabulary": words}).eval()
    save_weights(tmp_path / "model", model.state_dict(), {"spec": plain(spec), "coder": model.about()})
    captions = [scene.caption for scene in PLANNED]
    images, texts = model.image_features(IMAGES).numpy(), model.text_features(captions).numpy()
    by_hand = (images * texts).sum(1) / np.linalg.norm(images, axis=1) / np.linalg.norm(texts, axis=1)
    scorer = KINDS["clip_score"].scorer(ScorerSpec("clip_score", model="m"), tmp_path / "model", None)
    np.testing.assert_allclose(scorer(IMAGES, captions)["score"], by_hand, atol=1e-6)
    kind, record = detectors.KINDS["contrastive"], SimpleNamespace(facts={})
    for count, fits in ((12, True), (64, False)):
        detector = DetectorSpec("contrastive", model="m", features=count)
        given = dict.fromkeys(("data", "weights", "state")) | {"out": tmp_path / "d",
                                                               "model": tmp_path / "model"}
        if not fits:
            with pytest.raises(ValueError, match="has 12 features of an image, the configuration's"):
                kind.make(detector, record, **given)
            continue
        kind.make(detector, record, **given)
        np.testing.assert_allclose(kind.features(detector, tmp_path / "d")(IMAGES).numpy(), images, atol=1e-5)


def test_a_detector_of_other_classes_is_refused(tmp_path):
    from ambient.evaluation import small_nets
    from ambient.specs import DetectorSpec

    spec = DetectorSpec("classifier", members=1, features=8, channels=8, nimg=8, batch=8, lr=0.01)
    small_nets.save(tmp_path / "net", small_nets.build(spec, 3, 4))
    with pytest.raises(ValueError, match="net: tells 4 classes, allowed: the 10 shapes of scenes"):
        scene_objects.SceneObjects(tmp_path / "net", 16)
    small_nets.save(tmp_path / "net", small_nets.build(spec, 3, 10))
    found = scene_objects.SceneObjects(tmp_path / "net", 16)(IMAGES[:5])
    assert [sum(map(len, one.values())) for one in found] == [len(scene.shapes) for scene in PLANNED[:5]]
    assert sources.KINDS["scenes"].Spec.captioned


def test_the_ceiling_is_of_the_images_that_chose_no_threshold(real):
    found = geneval.Verdicts(Known(PLANNED), real)
    assert [TASKS[k] for k in found.real["task"]] == [one.asked["tag"] for one in PLANNED[1::2]]
