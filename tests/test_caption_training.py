"""What a training draws of captions and patches, its phases, and that stops and ranks change nothing."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from forks import Ranks, train_told
from safetensors.torch import load_file
from tiny import RECORD, TOLD, kept, optimiser

from ambient import specs
from ambient.data import text_states
from ambient.data.annotations import Annotations
from ambient.data.datasets import read, write
from ambient.data.texts import Texts
from ambient.diffusion.denoiser import Denoiser
from ambient.diffusion.patches import to_patches
from ambient.diffusion.randomness import torch_generator
from ambient.jobs import stopping
from ambient.stages import train
from ambient.training.batches import AmbientBatches
from ambient.training.build import build_network
from ambient.training.loop import Fit
from ambient.training.points import Points
from ambient.training.shares import Share

SAID = ["a red cat", "a blue dog", "a green cat"]
ALL = slice(0, 16)


@pytest.fixture(scope="module")
def captioned(mixture, tmp_path_factory):
    """The mixture with a caption an image, and states of them: of caption c all numbers are c + 1."""
    folder, data = tmp_path_factory.mktemp("captioned"), read(mixture)
    captions = Texts.of([SAID[i % 3] for i in range(60)])
    write(folder / "data", dataclasses.replace(data, captions=captions))
    states = np.random.default_rng(0).normal(size=(3, 5, 10)).astype(np.float16)
    text_states.write(folder / "texts", captions.digests(), (5, 10), [states])
    return folder


def files(captioned, annotations, folder, **more):
    folder.mkdir(exist_ok=True)
    return {"data": captioned / "data", "annotations": annotations, "texts": [captioned / "texts"],
            "state": kept(folder / "state"), "out": folder / "denoiser.safetensors",
            "log": folder / "loss.jsonl"} | more


def batches(captioned, annotations, **changes):
    spec, data = dataclasses.replace(TOLD, **changes), read(captioned / "data")
    network = build_network(spec.network, 8, 1, 3, False, torch_generator("cpu", 0))
    return AmbientBatches(spec, data, Points(data), Annotations.read(annotations), Denoiser(network),
                          torch.device("cpu"), text_states.told(data.captions, [captioned / "texts"]))


def test_captions_follow_their_images_and_some_are_dropped_at_each_visit(captioned, annotations):
    made = batches(captioned, annotations, caption_dropout=0.25)
    index, dropped = torch.arange(16), []
    for nimg in range(0, 1600, 16):
        states = made.captions(index, nimg, ALL)
        none = (states == 0).all(dim=(1, 2))
        dropped.append(none)
        assert torch.equal(states[~none], torch.from_numpy(made.told[index.numpy()])[~none])
        assert torch.equal(made.captions(index[6:9], nimg, slice(6, 9)), states[6:9])
    share = torch.stack(dropped).double()
    assert share.mean() == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / 1600) ** 0.5)
    assert share.std(dim=0).min() > 0.2  # each image now and then
    none = batches(captioned, annotations, caption_dropout=0.0).captions(index, 0, ALL)
    assert (none != 0).any(dim=(1, 2)).all()


def test_patches_are_drawn_anew_and_by_their_place_in_the_batch(captioned, annotations):
    made = batches(captioned, annotations, mask=0.75)
    places = made.patches(8, 32, ALL)
    assert places.shape == (16, 4) and places.max() < 16
    assert torch.equal(made.patches(8, 32, slice(3, 5)), places[3:5])
    assert not torch.equal(made.patches(8, 48, ALL), places)


@pytest.mark.parametrize("reduction, factor", [("mean", 1), ("sum", 64)])
def test_the_loss_is_the_mean_of_the_patches_that_stay(captioned, annotations, reduction, factor):
    loss = dataclasses.replace(TOLD.loss, reduction=reduction)
    made, values = batches(captioned, annotations, loss=loss), torch.rand(3, 1, 8, 8, dtype=torch.float64)
    places = torch.tensor([[0, 5], [1, 2], [14, 15]])
    kept_ones = [to_patches(values, 2)[i, place].mean() for i, place in enumerate(places)]
    torch.testing.assert_close(made.reduced(values, places), torch.stack(kept_ones).mean() * factor)
    torch.testing.assert_close(made.reduced(values, None), values.mean() * factor)


def test_draws_of_a_phase_go_on_where_those_of_the_one_before_ended(captioned, annotations):
    first = batches(captioned, annotations)
    second = batches(captioned, annotations, start=specs.StartSpec(160, False, 160))
    for one, other in zip(first.read((192, 0, 16)), second.read((32, 0, 16)), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(first.patches(8, 192, ALL), second.patches(8, 32, ALL))
    plain = batches(captioned, annotations, caption_dropout=0.0, mask=0.0)  # other streams change no draw
    assert torch.equal(plain.read((64, 0, 16))[3], first.read((64, 0, 16))[3])


def test_parts_of_a_batch_have_its_gradient_and_its_counts(captioned, annotations):
    found = []
    for number in (1, 4):
        made = batches(captioned, annotations)
        made.denoiser.train()
        layers = [layer for layer in made.denoiser.modules() if hasattr(layer, "routed")]
        loss = sum(made.loss(16, Share(part, number)) for part in range(number)) / number
        loss.backward()
        found.append((loss.detach(), [w.grad for w in made.denoiser.parameters()],
                      [layer.told(layer.routed) for layer in layers]))
    torch.testing.assert_close(found[0][:2], found[1][:2], rtol=1e-4, atol=1e-6)
    assert found[0][2] == found[1][2] and len(found[0][2]) == 2
    mixer, backbone = found[0][2]
    assert mixer["tokens_an_expert"] == 8 and backbone["tokens_an_expert"] == 4
    assert 0 <= backbone["nobodys_tokens"] < 1


@pytest.fixture(scope="module")
def trained(captioned, annotations, tmp_path_factory):
    """A training that is never disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    train.main(TOLD, RECORD, **files(captioned, annotations, folder))
    return folder


def test_a_stopped_training_ends_in_the_same_bytes(captioned, annotations, trained, tmp_path, monkeypatch):
    given, steps, step = files(captioned, annotations, tmp_path), [], Fit.step
    monkeypatch.setattr(Fit, "step", lambda *given: steps.append(1) or step(*given))
    monkeypatch.setattr(stopping, "reason", lambda: "a test" if len(steps) == 2 else None)
    with pytest.raises(SystemExit):
        train.main(TOLD, RECORD, **given)
    train.main(TOLD, RECORD, **given)
    assert len(steps) == 4
    for name in ("denoiser.safetensors", "loss.jsonl"):
        assert (tmp_path / name).read_bytes() == (trained / name).read_bytes()


def test_two_ranks_train_what_one_does(captioned, annotations, trained, tmp_path):
    Ranks(2, tmp_path / "two", train_told, captioned, annotations, tmp_path / "two").done()
    found, whole = (load_file(folder / "denoiser.safetensors") for folder in (tmp_path / "two", trained))
    torch.testing.assert_close(found, whole, rtol=1e-3, atol=1e-5)
    lines = [[json.loads(line) for line in (folder / "loss.jsonl").read_text().splitlines()]
             for folder in (tmp_path / "two", trained)]
    assert [one["tokens_an_expert"] for one in lines[0]] == [one["tokens_an_expert"] for one in lines[1]]


def next_phase(**changes):
    """A phase of one step with a rate so small that it ends where it began."""
    made = dataclasses.replace(TOLD, start=specs.StartSpec(64, True, 64), keep_state=True, mask=0.0,
                               optimiser=optimiser(nimg=16, lr=1e-30, decay="constant", ramp_nimg=0),
                               snapshots=(16,))
    return dataclasses.replace(made, **changes)


@pytest.mark.parametrize("stds", [(), (0.05, 0.1)])
@pytest.mark.parametrize("moments", [True, False])
def test_a_phase_begins_with_what_the_one_before_left(captioned, annotations, trained, tmp_path, moments,
                                                      stds):
    rate = next_phase().optimiser
    spec = next_phase(start=specs.StartSpec(64, moments, 64),
                      optimiser=dataclasses.replace(rate, ema_stds=stds))
    given = files(captioned, annotations, tmp_path, start=trained / "denoiser.safetensors")
    train.main(spec, RECORD, **given)
    before, after = (load_file(folder / "denoiser.safetensors") for folder in (trained, tmp_path))
    source = "state/weights." if moments else "64/"
    weights = [name.removeprefix("state/weights.") for name in after if name.startswith("state/weights.")]
    ends = ["state/weights.", "16/", *(f"16-ema-{std}/" for std in stds[1:])]
    for name in weights:
        for end in ends:
            torch.testing.assert_close(after[end + name], before[source + name], rtol=1e-6, atol=0)
        assert after[f"state/step.{name}"] == (5 if moments else 1)
    assert "state/weights.model.pos_embed" not in after and len(weights) > 50
    same = [torch.equal(before[f"state/weights.{name}"], before[f"64/{name}"]) for name in weights]
    assert not all(same)  # the averages are other weights


def test_what_cannot_be_begun_with_is_refused(captioned, annotations, trained, tmp_path):
    given = files(captioned, annotations, tmp_path)
    with pytest.raises(ValueError, match="--start: got None, allowed: the weights of the phase before"):
        train.main(next_phase(), RECORD, **given)
    wider = dataclasses.replace(TOLD.network, depth=4)
    with pytest.raises(ValueError, match="denoiser.safetensors: state/weights.*has the shape"):
        train.main(next_phase(network=wider), RECORD, **given, start=trained / "denoiser.safetensors")
    other = dataclasses.replace(TOLD.network, caption_channels=12)
    with pytest.raises(ValueError, match="states have 10 channels, network.caption_channels is 12"):
        train.main(dataclasses.replace(TOLD, network=other), RECORD, **given)
