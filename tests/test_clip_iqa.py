"""CLIP-IQA against piq's own criterion, with a small network in CLIP's place: its weights are not shipped."""

import re
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ambient.cluster.outside import scorer_file
from ambient.evaluation.scorers import clip_iqa
from ambient.specs import DatasetSpec, ScorerSpec
from ambient.specs.strict import SpecError

clip = pytest.importorskip("piq.feature_extractors.clip", reason="needs the extra `pretrained`")
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 3, 256, 256), dtype=np.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A network of CLIP's architecture, much narrower, whose scores differ from each other."""
    torch.manual_seed(0)
    network = clip.CLIP(16, 224, (1, 1, 1, 1), 4, None, 77, 49408, 64, 1, 1)
    path = tmp_path_factory.mktemp("clip") / "clip.safetensors"
    tensors = {name: tensor.half().float().contiguous() for name, tensor in network.state_dict().items()}
    for name in tensors:
        if name.endswith("num_batches_tracked"):
            tensors[name] = torch.zeros((), dtype=torch.int64)
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, path)
    return path


@pytest.fixture(scope="module")
def theirs(weights, tmp_path_factory):
    """piq's criterion with these weights, and its prompts, in the place of its downloads."""
    from piq import clip_iqa as criterion

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(criterion.clip, "load", lambda: clip_iqa.read_network(weights))
        patch.setattr(criterion, "download_tensor", lambda url, path: torch.tensor(
            [[49406, word, 1125, 269, 49407] + [0] * 72 for word in (886, 2103)]))
        return criterion.CLIPIQA(data_range=255)


def test_scores_are_those_of_piq_for_whole_images_and_patches(weights, theirs):
    spec = ScorerSpec(kind="clip_iqa", patches=(128, 256))
    found = clip_iqa.scorer(spec, weights)(IMAGES)
    expected = theirs(torch.from_numpy(IMAGES).float())[:, 0].numpy()
    np.testing.assert_allclose(found["score"], expected, atol=1e-5)
    np.testing.assert_array_equal(found["patches/256"][:, 0, 0], found["score"])
    corner = torch.from_numpy(IMAGES[:, :, 128:, :128]).float()
    large = torch.nn.functional.interpolate(corner, (224, 224), mode="bilinear")
    np.testing.assert_allclose(found["patches/128"][:, 1, 0], theirs(large)[:, 0].numpy(), atol=1e-5)
    assert found["patches/128"].shape == (3, 2, 2) and np.ptp(found["patches/128"]) > 1e-4


def test_grey_images_score_as_their_three_equal_channels(weights):
    score = clip_iqa.judge(clip_iqa.read_network(weights))
    grey = IMAGES[:, :1, :32, :32]
    np.testing.assert_allclose(score(grey, 32), score(np.repeat(grey, 3, axis=1), 32), atol=1e-6)


@pytest.mark.parametrize("side", [64, 96, 200])
def test_a_small_image_is_seen_at_its_own_size_and_its_only_patch_enlarged(side, weights, theirs):
    images = np.ascontiguousarray(IMAGES[:, :, :side, :side])
    found = clip_iqa.scorer(ScorerSpec(kind="clip_iqa", patches=(side,)), weights)(images)
    own = torch.from_numpy(images).float()
    large = torch.nn.functional.interpolate(own, (224, 224), mode="bilinear")
    np.testing.assert_allclose(found["score"], theirs(own)[:, 0].numpy(), atol=1e-5)
    np.testing.assert_allclose(found[f"patches/{side}"][:, 0, 0], theirs(large)[:, 0].numpy(), atol=1e-5)


def test_other_files_are_refused_by_name_and_no_program_is_run(tmp_path):
    (tmp_path / "RN50.pt").write_bytes(b"a program")
    with pytest.raises(ValueError, match="RN50.pt: sha256 is .*, allowed: afeb0e10.* no other one is run"):
        clip_iqa.read_network(tmp_path / "RN50.pt")
    save_file({"a": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="x.safetensors: not the weights of CLIP's RN50; fetch OpenAI's"):
        clip_iqa.read_network(tmp_path / "x.safetensors")


def test_without_the_package_it_is_said_how_to_have_it(weights, monkeypatch):
    monkeypatch.setitem(sys.modules, "piq.feature_extractors", None)
    with pytest.raises(ValueError, match="needs the package piq .*pip install --editable '..pretrained.'"):
        clip_iqa.read_network(weights)


def test_the_paper_scores_341_patches_and_other_sizes_are_refused_when_read():
    spec = ScorerSpec(kind="clip_iqa")
    spec.check(DatasetSpec("mnist", 512, 3))
    assert sum((512 // side) ** 2 for side in spec.patch_sides()) == 341
    with pytest.raises(SpecError, match="patches: .* sides that divide the images' 64 pixels"):
        spec.check(DatasetSpec("mnist", 64, 3))


@pytest.mark.parametrize(("path", "mark", "words"), [
    (None, "missing", "needs the weights of CLIP's RN50: fetch"),
    ("/nowhere.pt", "missing", "no such file /nowhere.pt .scorers.iqa.path."), ("here", "ok", "iqa: /")])
def test_the_doctor_says_whether_the_weights_are_there(path, mark, words, weights):
    given = str(weights) if path == "here" else path
    found = type("Found", (), {"scorer": lambda self, name: ScorerSpec(kind="clip_iqa", path=given)})()
    (state, line), = scorer_file(found, "iqa")
    assert state == mark and re.search(words, line)
