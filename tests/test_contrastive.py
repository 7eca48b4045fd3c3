"""The model of images and texts: its loss by hand, what it learns of scenes, and what is refused."""

import dataclasses
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ambient.data import sources
from ambient.data.datasets import Dataset, write
from ambient.data.texts import Texts
from ambient.diffusion.networks.contrastive import Contrastive, matching_loss
from ambient.jobs.identity import Identity
from ambient.jobs.state import State
from ambient.specs import DatasetSpec, TextEncoderSpec, TextsSpec
from ambient.specs.strict import SpecError, build, plain
from ambient.stages import texts
from ambient.training import contrasting, text_encoders
from ambient.training.contrasting import captions_of
from ambient.training.text_encoding import TextEncoder
from ambient.training.weights import save_weights

KIND = text_encoders.KINDS["contrastive"]
SPEC = TextEncoderSpec("contrastive", nimg=64 * 50, batch=64, channels=16, image_channels=8, features=16,
                       layers=1, lr=4e-3)


def scenes(number, **settings):
    spec = DatasetSpec("scenes", 8, 3, num_images=number, **settings)
    return sources.KINDS["scenes"].draw(spec)


def learnt(spec, data, folder):
    record = SimpleNamespace(facts={})
    state = State(folder, Identity("text_encoder", {}))
    return KIND.make(spec, record, data=data, weights=None, state=state), record.facts


def test_the_loss_by_hand():
    """Three pairs of which two have one text: each of those is right for both, by a half."""
    similar = torch.tensor([[2.0, 1.0, 0.0], [0.5, 0.0, 1.0], [0.0, -1.0, 3.0]])
    texts = torch.tensor([4, 4, 7])
    wanted = np.array([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]])
    s = similar.numpy().astype(float)
    rows = s - np.log(np.exp(s).sum(axis=1, keepdims=True))
    columns = s.T - np.log(np.exp(s.T).sum(axis=1, keepdims=True))
    by_hand = -((wanted * rows).sum() + (wanted * columns).sum()) / 6
    assert matching_loss(similar, texts).item() == pytest.approx(by_hand, rel=1e-6)


@pytest.mark.parametrize(("log_scale", "scale"), [(2.0, 7.38905609893065), (9.0, 100.0)])
def test_similarities_are_cosines_times_a_scale_of_at_most_100(log_scale, scale):
    """The towers here hand on what they are given."""
    model = Contrastive(torch.nn.Identity(), torch.nn.Identity(), torch.Generator())
    model.log_scale.data.fill_(log_scale)
    images = torch.tensor([[3.0, 4.0], [-2.0, 0.0]])
    texts = torch.tensor([[5.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    cosines = torch.tensor([[0.6, 0.8, 1.4 / 2**0.5], [-1.0, 0.0, -1 / 2**0.5]])
    torch.testing.assert_close(model.similarities(images, texts), scale * cosines)


def test_it_learns_which_caption_an_image_has(tmp_path):
    """Of coloured single shapes: held-out images are nearer to their own captions than to others."""
    data = scenes(600, grid=1, forms=("colors",), colours=("red", "green", "blue"))
    model, facts = learnt(SPEC, data, tmp_path)
    assert facts["captions"] == 30 and facts["held_out_images"] == 60
    assert facts["cosine"] > facts["cosine_of_others"] + 0.3
    assert facts["accuracy"] > 5 * facts["chance"]
    captions = data.captions.of_images()
    cosines = model.cosines(data.images[:60], captions[:60])
    assert cosines.mean() > model.cosines(data.images[:60], captions[60:120]).mean() + 0.3
    again = KIND.build(SPEC, model.about())
    again.load_state_dict(model.state_dict())
    np.testing.assert_allclose(again.eval().cosines(data.images[:60], captions[:60]), cosines, atol=1e-6)


def test_held_out_images_are_matched_some_at_a_time(monkeypatch):
    """Four images and three texts on axes, by hand; three images at a time."""
    features = torch.eye(3)[[0, 1, 2, 0]] * 5  # the last image looks like a, and is said to be b
    model = SimpleNamespace(image_features=lambda images: features[images],
                            text_features=lambda texts: torch.eye(3)[["abc".index(text) for text in texts]])
    monkeypatch.setattr(contrasting, "TOGETHER", 3)
    found = contrasting.matched(model, np.arange(4), ["a", "b", "c", "b"])
    assert found == {"held_out_images": 4, "cosine": 0.75, "cosine_of_others": 1 / 8, "accuracy": 0.75,
                     "chance": 1 / 3}


def test_states_are_functions_of_their_caption_alone():
    model = KIND.build(SPEC, {"channels": 3, "vocabulary": ["a", "red", "star"]}).eval()
    one = model.states(["a red star"])
    assert one.shape == (1, 8, 16)
    torch.testing.assert_close(model.states(["a star", "a red  star"])[1:], one)
    assert (model.states(["a star"]) - one).abs().max() > 0.01
    features = model.image_features(np.zeros((2, 3, 16, 16), np.uint8))
    assert features.shape == (2, 16) and torch.equal(features[0], features[1])


@pytest.mark.parametrize(("text", "said"), [
    ("a blue star", "the word 'blue' is in no caption of the training, allowed: a, red, star"),
    ("a a a a a a a a a", "9 words, allowed: at most 8")])
def test_other_captions_are_refused(text, said):
    model = KIND.build(SPEC, {"channels": 3, "vocabulary": ["a", "red", "star"]})
    with pytest.raises(ValueError, match=re.escape(said)):
        model.states([text])


def test_words_it_has_not_learnt_can_be_left_out(tmp_path):
    """Captions of a second folder always have some: scale `captioned` refused them after its trainings."""
    lenient = dataclasses.replace(SPEC, unknown="leave_out")
    model = KIND.build(lenient, {"channels": 3, "vocabulary": ["a", "red", "star"]}).eval()
    assert model.tokens(["A blue star", "", "kite", "a a a a a a a star red"]).tolist() == [
        [1, 3, 0, 0, 0, 0, 0, 0], [0] * 8, [0] * 8, [1, 1, 1, 1, 1, 1, 1, 3]]
    torch.testing.assert_close(model.states(["a blue star"]), model.states(["a star"]))
    assert model.states(["kite"]).isfinite().all()
    assert model.unknown("a red star") is None and "'blue'" in model.unknown("a blue star")
    long = Dataset(np.zeros((2, 3, 16, 16), np.uint8), np.zeros(2, int), np.arange(2),
                   captions=Texts.of(["a b c d e f g h i", "h b"]))
    assert contrasting.vocabulary_of(lenient, long) == list("abcdefgh")


def test_captions_with_words_left_out_are_counted_and_those_that_are_asked_for_are_refused(tmp_path):
    spec = dataclasses.replace(SPEC, unknown="leave_out")
    model = KIND.build(spec, {"channels": 3, "vocabulary": ["a", "red", "star"]})
    save_weights(tmp_path / "encoder", model.state_dict(), {"spec": plain(spec), "coder": model.about()})
    write(tmp_path / "data", Dataset(np.zeros((3, 3, 16, 16), np.uint8), np.full(3, -1), np.arange(3),
                                     captions=Texts.of(["a star", "a blue star", "a kite"])))
    record = SimpleNamespace(facts={})
    texts.main(TextsSpec("contrastive"), record, data=tmp_path / "data", text_encoder=tmp_path / "encoder",
               state=State(tmp_path / "state", Identity("texts", {})), out=tmp_path / "texts")
    assert (record.facts["captions"], record.facts["partly_known"]) == (3, 2)
    encoder = TextEncoder(tmp_path / "encoder", torch.device("cpu"))
    assert encoder.told(["a red star"]).shape == (8, 16)
    with pytest.raises(ValueError, match="the caption 'a kite': the word 'kite' is in no caption of the tr"):
        encoder.told(["a star", "a kite"])


def test_an_error_lists_no_thousands_of_words():
    model = KIND.build(SPEC, {"channels": 3, "vocabulary": [f"w{i}" for i in range(5000)]})
    with pytest.raises(ValueError, match="'kite' is in no .*allowed: one of its 5,000 words") as caught:
        model.states(["kite " * 40])
    assert len(str(caught.value)) < 300


def test_what_it_can_not_learn_from_is_refused(tmp_path):
    data = Dataset(np.zeros((2, 3, 16, 16), np.uint8), np.zeros(2, int), np.arange(2))
    with pytest.raises(ValueError, match="image 0 has no caption: a model of images and texts"):
        captions_of(data)
    some = dataclasses.replace(data, captions=Texts.of(["a star", None]))
    with pytest.raises(ValueError, match="image 1 has no caption"):
        captions_of(some)
    long = dataclasses.replace(data, captions=Texts.of(["a b c d e f g h i"] * 2))
    with pytest.raises(ValueError, match="has 9 words, allowed: at most tokens = 8"):
        learnt(SPEC, long, tmp_path)


@pytest.mark.parametrize(("changed", "said"), [
    ({"channels": 18}, "channels: got 18, allowed: a multiple of heads = 4"),
    ({"tokens": 0}, "tokens: got 0"),
    ({"image_channels": 12}, "image_channels: got 12"), ({"batch": 1}, "batch: got 1"),
    ({"layers": 0}, "layers: got 0")])
def test_settings_are_held_to_their_ranges(changed, said):
    with pytest.raises(SpecError, match=re.escape(said)):
        build(TextEncoderSpec, {"kind": "contrastive", "nimg": 640, "batch": 64} | changed, "t")
