"""Objects of COCO's classes: what a network's masks say, colours by CLIP, and transformers' network."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import interpolate, one_hot

from ambient.data.coco import NAMES
from ambient.data.prompt_forms import COLOURS, understood
from ambient.evaluation import coco_objects, detectors
from ambient.evaluation.coco_objects import CocoObjects, Segment, alone, segments
from ambient.evaluation.geneval import geneval_faults, geneval_prompt
from ambient.jobs.stage import Record
from ambient.specs import DetectorSpec, ScorerSpec

DOG, CLOCK = NAMES.index("dog"), NAMES.index("clock")
RGB = {"red": (220, 20, 20), "green": (20, 160, 40), "blue": (20, 40, 220)}


def masks(*boxes, side=16):
    """Logits, 40 inside of a box (x0, y0, x1, y1) and -40 elsewhere, as a network of half the side gives."""
    made = torch.full((len(boxes), side, side), -40.0)
    for one, (x0, y0, x1, y1) in zip(made, boxes, strict=True):
        one[y0:y1, x0:x1] = 40.0
    return made


def classes(*rows, queries=4):
    """Logits of queries, whose probability p is that of a class: ln p, and ln(1 - p) of none."""
    made = torch.full((queries, len(NAMES) + 1), -60.0)
    made[:, -1] = 0.0
    for one, (label, p) in zip(made, rows, strict=False):
        one[label], one[-1] = np.log(p), np.log(1 - p)
    return made


def test_a_score_is_the_probability_of_the_class_times_that_of_its_pixels():
    """Pixels of probability 1, but for those of the second object: 3 / 4. A query is an object of two classes
    where both are probable. What is below 0.05 is none, nor what has no pixel."""
    logits = masks((0, 0, 4, 8), (8, 8, 16, 16), (0, 0, 0, 0), (2, 2, 6, 6))
    logits[1] = torch.where(logits[1] > 0, np.log(3.0), -40.0)
    found = segments(classes((DOG, 0.8), (CLOCK, 0.6), (DOG, 0.9), (DOG, 0.04)), logits, 16)
    assert [one.label for one in found] == [DOG, CLOCK]
    assert [one.score for one in found] == pytest.approx([0.8, 0.45], abs=1e-6)
    assert [one.box for one in found] == [(0, 0, 4, 8), (8, 8, 16, 16)]
    enlarged = segments(classes((DOG, 0.8)), masks((0, 0, 4, 8)), 64)
    assert enlarged[0].box == (0, 0, 16, 32) and enlarged[0].mask.sum() == 16 * 32 - 1  # a rounded corner
    both = classes((DOG, 0.5))
    both[0, CLOCK], both[0, -1] = np.log(0.3), np.log(0.2)
    assert [one.label for one in segments(both, masks((0, 0, 4, 8)), 16)] == [DOG, CLOCK]


def test_an_object_is_shown_alone_in_its_box():
    image, mask = np.arange(3 * 6 * 6).reshape(3, 6, 6).astype(np.uint8), np.zeros((6, 6), bool)
    mask[1, 2], mask[3, 4] = True, True
    cut = alone(image, Segment(DOG, 1.0, mask))
    assert cut.shape == (3, 3, 3) and (cut[:, 0, 0] == image[:, 1, 2]).all()
    assert (cut[:, 2, 2] == image[:, 3, 4]).all() and (np.delete(cut.reshape(3, 9), (0, 8), 1) == 153).all()


class Clip:
    """In CLIP's place: texts lie at their colour's number, images where their brightest channel says."""

    def __init__(self):
        self.asked = []

    def text_features(self, texts):
        self.asked += texts
        words = [text.replace("-colored", "").split()[4] for text in texts]
        return one_hot(torch.tensor([COLOURS.index(word) for word in words]), len(COLOURS)).float()

    def image_features(self, crops):
        names = [("red", "green", "blue")[int(np.argmax(crop.mean(axis=(1, 2))))] for crop in crops]
        return 5 * one_hot(torch.tensor([COLOURS.index(name) for name in names]), len(COLOURS)).float()


class Network(torch.nn.Module):
    """It sees what it is told, whatever the image."""

    def __init__(self, logits, places):
        super().__init__()
        self.told = SimpleNamespace(class_queries_logits=logits[None], masks_queries_logits=places[None])
        self.weight, self.pixels = torch.nn.Parameter(torch.zeros(())), []

    def forward(self, pixel_values):
        self.pixels.append(pixel_values)
        return self.told


def test_a_verdict_on_what_a_network_sees_and_clip_says_of_colours():
    """A red dog left of a blue clock. Of colours is asked where the prompt names one, of each class once."""
    image = np.full((3, 32, 32), 10, np.uint8)
    image[:, 8:24, 0:8] = np.array(RGB["red"])[:, None, None]
    image[:, 8:24, 24:32] = np.array(RGB["blue"])[:, None, None]
    network = Network(classes((DOG, 0.95), (CLOCK, 0.95)),
                      masks((0, 4, 4, 12), (12, 4, 16, 12), (0, 0, 0, 0), (0, 0, 0, 0)))
    clip = Clip()
    objects = CocoObjects(network, 24, clip)
    expected = {"a photo of a red dog and a blue clock": True,
                "a photo of a green dog and a blue clock": False,
                "a photo of a dog left of a clock": True, "a photo of a dog below a clock": False,
                "a photo of two dogs": False, "a photo of a blue clock": True, "a photo of a cat": False}
    for caption, right in expected.items():
        prompt = geneval_prompt(understood(caption, objects.names))
        seen, = objects(image[None], [prompt])
        assert (geneval_faults(prompt, seen) == []) == right, caption
        assert (seen["clock"][0].colour is not None) == ("blue" in caption)
    assert len(clip.asked) == 2 * 3 * len(COLOURS) and "a photo of a red-colored dog" in clip.asked
    shown = network.pixels[0]
    assert shown.shape == (1, 3, 24, 24)
    corner = (10 - np.array(coco_objects.MEAN)) / np.array(coco_objects.STD)
    np.testing.assert_allclose(shown[0, :, 0, 0].numpy(), corner, rtol=1e-5)


def test_weights_that_are_missing_are_named(tmp_path):
    kind, spec = detectors.KINDS["mask2former"], DetectorSpec("mask2former")
    for weights in (None, tmp_path / "none"):
        with pytest.raises(ValueError, match=r"weights: got .*, allowed: a file; fetch model.safetensors of"):
            kind.make(spec, Record(), data=None, weights=weights, state=None, out=tmp_path / "out")


SMALL = {"width": 8, "depths": (1, 1, 1, 1), "heads": (1, 1, 1, 1), "hidden": 32, "queries": 12, "side": 64}


@pytest.mark.filterwarnings("ignore")
def test_the_network_is_that_of_transformers(tmp_path):
    """Drawn weights: objects are those of transformers' own reading of the same masks, of 384 pixels."""
    library = pytest.importorskip("transformers")
    kind, spec = detectors.KINDS["mask2former"], DetectorSpec("mask2former", **SMALL)
    torch.manual_seed(0)
    config = library.Mask2FormerConfig(**kind.settings_of(spec))
    theirs = library.Mask2FormerForUniversalSegmentation(config).eval()
    torch.nn.init.normal_(theirs.class_predictor.weight, std=2.0)
    save_file(theirs.state_dict(), tmp_path / "weights.safetensors")
    kind.make(spec, Record(), data=None, weights=tmp_path / "weights.safetensors", state=None,
              out=tmp_path / "out")
    image = np.random.default_rng(0).integers(0, 256, (3, 384, 384)).astype(np.uint8)
    network = kind.read_network(spec, tmp_path / "out")
    found = CocoObjects(network, spec.side, Clip()).segments(image)
    with torch.no_grad():
        pixels = interpolate(torch.from_numpy(image)[None].float(), (64, 64), mode="bilinear")
        mean, std = (torch.tensor(one).reshape(1, 3, 1, 1) for one in (coco_objects.MEAN, coco_objects.STD))
        told = theirs(pixel_values=(pixels - mean) / std)
    read = library.Mask2FormerImageProcessor().post_process_instance_segmentation(
        told, threshold=0.05, return_binary_maps=True)[0]
    expected = {(one["label_id"], round(one["score"], 4)) for one in read["segments_info"]}
    assert len(expected) > 3
    assert expected == {(one.label, round(one.score, 4)) for one in found if one.score >= 0.05}
    with pytest.raises(ValueError, match=r"weights.safetensors: .*(missing|mismatched) keys: "):
        kind.make(DetectorSpec("mask2former", **SMALL | {"hidden": 64}), Record(), data=None, state=None,
                  weights=tmp_path / "weights.safetensors", out=tmp_path / "other")
    asking = ScorerSpec("geneval", detector="d", model="m", asked=spec)
    assert asking.MODEL and not ScorerSpec("geneval", detector="d", window=16).MODEL
