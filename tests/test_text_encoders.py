"""Captions to states: CLIP's tokenizer and text tower, and the stages that store states of captions."""

import gzip
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from t2i_vectors import needs_reference, vectors
from t2i_vectors import read as known
from torch.nn.functional import normalize

from ambient.data import bpe, text_states
from ambient.data.datasets import Dataset, write
from ambient.data.text_states import told
from ambient.data.texts import Texts
from ambient.diffusion.networks.text_tower import TextTower
from ambient.jobs.identity import Identity
from ambient.jobs.stage import Record
from ambient.jobs.state import State
from ambient.specs import TextEncoderSpec, TextsSpec
from ambient.stages import text_encoder, texts
from ambient.training.text_encoders.openclip import WEIGHTS
from ambient.training.text_encoding import TextEncoder

MERGES = Path(os.environ.get("AMBIENT_CLIP_MERGES", "bpe_simple_vocab_16e6.txt.gz"))
SMALL = TextEncoderSpec("openclip", width=8, heads=2, layers=2, context=6, features=4, precision="float32")


def state(folder):
    return State(folder, Identity("texts", {}))


def tower(dtype=torch.float32):
    """The tower of the vectors, and them."""
    arrays, about = vectors("text_tower")
    config = about["config"]
    made = TextTower(config["vocab_size"], config["context_length"], config["width"], config["heads"],
                     config["layers"], config["embed_dim"], config["quick_gelu"]).to(dtype)
    weights = {name.removeprefix("weights."): one.to(dtype) for name, one in arrays.items()
               if name.startswith("weights.") and name != "weights.logit_scale"}
    made.load_state_dict(weights)
    return made.eval(), arrays


@needs_reference
@pytest.mark.parametrize("dtype, suffix, tolerance", [
    (torch.float32, "out", 1e-5), (torch.float64, "out64", 1e-6)])
@torch.no_grad()
def test_the_tower_is_that_of_the_vectors(dtype, suffix, tolerance):
    made, arrays = tower(dtype)
    tokens = arrays["in.tokens"]
    for name, got in (("hidden", made.states(tokens)[:, None]), ("text_features", made.features(tokens))):
        expected = arrays[f"{suffix}.{name}"]
        assert (got - expected).abs().max() <= tolerance * expected.abs().max(), name


@torch.no_grad()
def test_a_caption_knows_nothing_of_the_others_in_its_batch_nor_of_what_comes_later():
    torch.manual_seed(0)
    made = TextTower(20, 6, 8, 2, 2, 4, True).eval()
    torch.nn.init.normal_(made.positional_embedding)
    tokens = torch.randint(1, 19, (6, 6))  # as many captions as positions: a wrong order of axes has no error
    together = made.states(tokens)
    alone = torch.cat([made.states(tokens[i:i + 1]) for i in range(6)])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    later = tokens.clone()
    later[:, 4:] = 19
    torch.testing.assert_close(made.states(later)[:, :4], together[:, :4], atol=1e-6, rtol=0)
    assert (made.states(later)[:, 4] - together[:, 4]).abs().max() > 0.1
    plain = TextTower(20, 6, 8, 2, 2, 4, False).eval()
    plain.load_state_dict(made.state_dict())
    assert (plain.states(tokens) - together).abs().max() > 1e-3  # the quick GELU is another function


def test_words_are_parted_as_clip_parts_them():
    assert list(bpe.words("it's 12 cats!?'s x")) == ["it", "'s", "1", "2", "cats", "!?'", "s", "x"]
    assert list(bpe.words("½café<end_of_text>")) == ["½", "café", "<end_of_text>"]
    assert list(bpe.words("'ſ 'ſt <end_of_text>ſ")) == ["'ſ", "'ſ", "t", "<end_of_text>", "ſ"]
    assert bpe.plain(" A&amp;amp;B\n caf\u00c3\u00a9 ") == "a&b café"


def test_pairs_are_merged_in_the_order_of_the_list():
    coder = bpe.Tokenizer("l o\nlo w</w>\no w</w>\ne r</w>")
    low, ow = 512 + 1, 512 + 2
    assert coder.of_word("low") == [low] and coder.of_word("ow") == [ow]
    w = coder.ids["w"]
    assert coder.of_word("lower") == [512, w, 512 + 3]
    assert coder(["LOW low", ""], 5).tolist() == [[516, low, low, 517, 0], [516, 517, 0, 0, 0]]
    assert coder(["low low low low"], 5).tolist() == [[516, low, low, low, 517]]  # cut, with its end


@needs_reference
@pytest.mark.skipif(not MERGES.is_file(), reason="no list of merges (AMBIENT_CLIP_MERGES)")
def test_ids_are_those_of_open_clip():
    found, coder = known("tokens"), bpe.Tokenizer(bpe.read_merges(MERGES))
    np.testing.assert_array_equal(coder(found["texts"], 77), found["ids"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint's folder: a small tower beside an image tower, and a list of merges of full length."""
    path = tmp_path_factory.mktemp("clip")
    torch.manual_seed(1)
    made = TextTower(bpe.VOCABULARY, 6, 8, 2, 2, 4, True)
    torch.nn.init.normal_(made.positional_embedding)
    save_file({f"text.{name}": one for name, one in made.state_dict().items()}
              | {"visual.proj": torch.zeros(2, 2), "logit_scale": torch.tensor(4.6)},
              path / "open_clip_model.safetensors")
    pairs = itertools.islice(itertools.product(bpe.byte_symbols(), repeat=2), bpe.MERGES)
    (path / "merges.txt").write_text("#version\n" + "\n".join(map(" ".join, pairs)))
    return path


@pytest.fixture(scope="module")
def stored(folder, tmp_path_factory):
    """The stored text encoder of that folder, the record of its stage, and states of captions."""
    path, record = tmp_path_factory.mktemp("stored"), Record()
    text_encoder.main(SMALL, record, weights=folder, state=state(path / "s"), out=path / "encoder")
    captions = Texts.of(["b cat", None, "a cat", "b cat"])
    images = np.zeros((4, 1, 4, 4), np.uint8)
    write(path / "data", Dataset(images, np.full(4, -1), np.arange(4), captions=captions))
    texts.main(TextsSpec("openclip"), record, data=path / "data", text_encoder=path / "encoder",
               state=state(path / "t"), out=path / "texts")
    return path, record


def test_each_distinct_caption_is_encoded_once(stored):
    path, record = stored
    assert record.facts["captions"] == 2 and record.facts["state"] == [6, 8]
    assert [one["name"] for one in record.outside] == ["text encoder"]
    found, encoder = text_states.read(path / "texts"), TextEncoder(path / "encoder", torch.device("cpu"))
    np.testing.assert_array_equal(found.states, encoder.states(["a cat", "b cat"]))
    captions = Texts.of(["b cat", None, "a cat"])
    states = told(captions, [path / "texts"])[np.array([2, 0, 1, 0])]
    assert states.dtype == np.float16 and not states[2].any()  # zeros, not the empty text's
    np.testing.assert_array_equal(states[[0, 1, 3]], encoder.states(["a cat", "b cat", "b cat"]))
    assert np.abs(encoder.states([""])).max() > 0.1


def test_states_of_other_captions_or_encoders_are_refused(stored, tmp_path):
    path, _ = stored
    with pytest.raises(ValueError, match="no states of the caption 'a dog', 1 in all"):
        told(Texts.of(["a cat", "a dog"]), [path / "texts"])
    other = Texts.of(["a dog"])
    text_states.write(tmp_path / "o", other.digests(), (6, 9), [np.zeros((1, 6, 9), np.float16)])
    with pytest.raises(ValueError, match="of another text encoder"):
        told(other, [path / "texts", tmp_path / "o"])
    both = Texts.of(["a dog", "a cat"])
    text_states.write(tmp_path / "o", other.digests(), (6, 8), [np.ones((1, 6, 8), np.float16)])
    states = told(both, [path / "texts", tmp_path / "o"])[np.arange(2)]
    assert (states[0] == 1).all() and states[1].any() and not (states[1] == 1).all()


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_checkpoint_of_any_published_name_is_read(folder, stored, tmp_path, name):
    tensors = load_file(folder / "open_clip_model.safetensors")
    (save_file if name.endswith(".safetensors") else torch.save)(tensors, tmp_path / name)
    (tmp_path / "merges.txt").write_bytes((folder / "merges.txt").read_bytes())
    text_encoder.main(SMALL, Record(), weights=tmp_path, state=state(tmp_path / "s"), out=tmp_path / "out")
    made, given = (TextEncoder(path, torch.device("cpu")).states(["a cat"])
                   for path in (tmp_path / "out", stored[0] / "encoder"))
    np.testing.assert_array_equal(made, given)


@pytest.mark.parametrize("change, message", [
    ({"layers": 3}, "transformer.resblocks.2.*has the shape None"), ({"width": 16}, "has the shape"),
    ({"sha256": "0" * 64}, "the configuration's sha256 is 0")])
def test_weights_of_another_tower_are_refused(folder, tmp_path, change, message):
    settings = {"width": 8, "heads": 2, "layers": 2, "context": 6, "features": 4} | change
    with pytest.raises(ValueError, match=message):
        text_encoder.main(TextEncoderSpec("openclip", **settings), Record(), weights=folder,
                          state=state(tmp_path / "s"), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content, message", [
    (b"#v\n" + b"a b\n" * 9, "9 lines of pairs"), (b"#v\n" + b"<html>\n" * bpe.MERGES, "the line '<html>'"),
    (b"#v\n" + b"a b\n" * bpe.MERGES, "the pair 'a b' twice")])
def test_a_damaged_list_of_merges_is_named(tmp_path, content, message):
    (tmp_path / "merges.txt").write_bytes(content)
    with pytest.raises(ValueError, match=f"merges.txt: has {message}"):
        bpe.read_merges(tmp_path / "merges.txt")
    packed = bytearray(gzip.compress(content))
    packed[12:16] = b"\xff" * 4
    (tmp_path / "m.gz").write_bytes(packed)
    with pytest.raises(ValueError, match="m.gz: no list of merges"):
        bpe.read_merges(tmp_path / "m.gz")


def test_features_are_the_state_at_the_end_token():
    made, generator = TextTower(20, 5, 8, 2, 2, 4, True).eval(), torch.Generator().manual_seed(0)
    for weight in made.parameters():
        torch.nn.init.normal_(weight, generator=generator)
    tokens = torch.tensor([[18, 3, 19, 0, 0]])
    expected = normalize(made.states(tokens)[:, 2] @ made.text_projection)
    torch.testing.assert_close(made.features(tokens), expected)
