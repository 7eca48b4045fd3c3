"""Sampling: a sample depends on its seed and on trained weights alone."""

import dataclasses
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from edm2_vectors import needs_reference
from edm2_vectors import vectors as vectors_of
from tiny import DRAWN, NETWORK, RECORD, SAMPLING, TRAINING, kept, run_training

from ambient import specs
from ambient.data.annotations import Annotations
from ambient.data.datasets import Dataset, read, write
from ambient.diffusion.randomness import uniform
from ambient.specs import strict
from ambient.specs.strict import SpecError
from ambient.stages import sample
from ambient.storage.files import read_arrays
from ambient.training import loading
from ambient.training.batches import check
from ambient.training.weights import read_description, save_weights


def test_a_sample_does_not_depend_on_its_batch(mixture, annotations, tmp_path, monkeypatch):
    denoiser = run_training(mixture, annotations, tmp_path)
    found = []
    for size in (6, 4, 1):
        monkeypatch.setitem(sample.BATCH, "cpu", size)
        out = tmp_path / f"samples-{size}.safetensors"
        sample.main(SAMPLING, RECORD, denoiser=denoiser, state=kept(tmp_path / "s"), out=out)
        found.append(read_arrays(out)["160"].astype(int))
    assert found[0].shape == (2, 6, 1, 8, 8)
    for other in found[1:]:
        assert abs(found[0] - other).max() <= 1  # of 255: rounding of another batch shape
    assert not np.array_equal(found[0][0], found[0][1])


def test_snapshots_before_the_last_are_the_first_seeds_only(mixture, annotations, tmp_path):
    """The same samples as with all seeds, fewer of them."""
    denoiser, found = run_training(mixture, annotations, tmp_path), []
    for earlier in (None, 1, 0):
        out = tmp_path / f"samples-{earlier}.safetensors"
        sample.main(dataclasses.replace(SAMPLING, earlier_seeds=earlier), RECORD, denoiser=denoiser,
                    state=kept(tmp_path / "s"), out=out)
        found.append(read_arrays(out))
    assert found[1]["80"].shape == (1, 6, 1, 8, 8)
    assert np.array_equal(found[0]["80"][:1], found[1]["80"])
    assert np.array_equal(found[0]["160"], found[1]["160"])
    assert list(found[2]) == ["160"] and np.array_equal(found[0]["160"], found[2]["160"])


@pytest.mark.parametrize(("device", "side", "count"), [
    ("cuda", 32, 5000), ("cuda", 64, 5000), ("cuda", 512, 250), ("cpu", 64, 640), ("cpu", 512, 320)])
def test_a_shard_of_large_images_is_a_quarter_of_a_gigabyte_or_one_batch(device, side, count):
    """5,000 images of 512 pixels would be 3.9 GB, of which there are copies while they are written."""
    batch = sample.batch_of(device, 64)  # of the latents of images of 512 pixels
    assert sample.shard_of(device, (3, side, side), batch) == count
    assert count * 3 * side**2 <= 2**28 and sample.shard_of("cuda", (3, 2048, 2048), batch) == batch


def test_as_many_samples_are_drawn_together_as_memory_holds():
    assert [sample.batch_of("cpu", side) for side in (8, 16, 32, 64, 512)] == [128, 128, 128, 32, 1]
    assert [sample.batch_of("cuda", side) for side in (32, 64, 128, 512)] == [250, 250, 64, 4]


def test_sampling_resumes_from_finished_shards(mixture, annotations, tmp_path, monkeypatch):
    denoiser = run_training(mixture, annotations, tmp_path)
    drawn, whole = [], sample.Draw.images

    def images(self, seed, ids):
        drawn.append(seed)
        if len(drawn) == 3:
            raise KeyboardInterrupt
        return whole(self, seed, ids)

    monkeypatch.setattr(sample.Draw, "images", images)
    files = {"denoiser": denoiser, "state": kept(tmp_path / "s"), "out": tmp_path / "o.safetensors"}
    with pytest.raises(KeyboardInterrupt):
        sample.main(SAMPLING, RECORD, **files)
    sample.main(SAMPLING, RECORD, **files)
    assert len(drawn) == 3 + 2  # of 4 shards: two were on disk


def test_class_conditional_training_and_sampling(mixture, annotations, tmp_path):
    """The labels reach the network: other classes, other samples from the same latents."""
    made = strict.build(specs.TrainingSpec, strict.plain(TRAINING) | {
        "network": strict.plain(NETWORK) | {"conditional": True}}, "test")
    denoiser, about = loading.load_denoiser(run_training(mixture, annotations, tmp_path, made), 160,
                                           torch.device("cpu"))
    assert about["num_classes"] == 3 and about["classes"] == [0, 1, 2]
    torch.nn.init.normal_(denoiser.model.map_label.weight)
    torch.nn.init.normal_(denoiser.model.dec["8x8_aux_conv"].weight)
    draw = sample.Draw(denoiser, about, *DRAWN, torch.device("cpu"))
    with_classes = draw.images(0, range(6))
    draw.classes = 0
    assert not np.array_equal(draw.images(0, range(6)), with_classes)
    data = read(mixture)
    with pytest.raises(ValueError, match="images without a label"):
        check(made, Dataset(data.images, np.full(60, -1), data.ids, data.corrupted))


def test_samples_are_of_classes_that_were_trained(mixture, tmp_path):
    """Labels 3 and 8, and 5 on images that no level admits: the one-hot labels are 9 wide, two are drawn."""
    data, table = read(mixture), tmp_path / "a.safetensors"
    labels = np.r_[[3, 8] * 10, [3] * 20, [5] * 20]
    write(tmp_path / "m.safetensors", Dataset(data.images, labels, data.ids, data.corrupted))
    Annotations(data.ids, np.where(labels == 5, np.inf, 0.0), np.zeros(60)).write(table)
    made = strict.build(specs.TrainingSpec, strict.plain(TRAINING) | {
        "network": strict.plain(NETWORK) | {"conditional": True}}, "test")
    file = run_training(tmp_path / "m.safetensors", table, tmp_path, made)
    denoiser, about = loading.load_denoiser(file, 160, torch.device("cpu"))
    assert about["num_classes"] == 9 and about["classes"] == [3, 8]
    draw = sample.Draw(denoiser, about, *DRAWN, torch.device("cpu"))
    asked = []
    draw.denoiser = lambda x, sigma, told: asked.append(told["classes"]) or denoiser(x, sigma, told)
    draw.images(0, range(200))
    expected = np.array([3, 8])[(uniform("class", 0, range(200)) * 2).astype(int)]
    assert asked[0].argmax(1).tolist() == expected.tolist() and asked[0].shape == (200, 9)


def test_with_all_classes_the_draw_is_the_plain_one():
    about = {"spec": {"network": {"conditional": True}}, "num_classes": 10, "channels": 1, "resolution": 8}
    for given in (about, about | {"classes": list(range(10))}):
        trained = sample.Draw(None, given, *DRAWN, torch.device("cpu")).trained
        assert trained.tolist() == list(range(10))


def by_generators(shape=(4, 8, 8), classes=1000):
    about = {"spec": {"network": {"conditional": True}}, "num_classes": classes, "channels": shape[0],
             "resolution": shape[1]}
    sampler = replace(DRAWN[0], draws="generators")
    return sample.Draw(lambda x, sigma, told: 0 * x, about, sampler, "float32", torch.device("cpu"))


def test_draws_of_generators_are_edm2s():
    noise, places = by_generators().of_generators(40, range(2, 4))
    for one, place, number in zip(noise, places, (42, 43), strict=True):
        generator = torch.Generator().manual_seed(number)
        assert torch.equal(one, torch.randn(4, 8, 8, generator=generator).double())
        assert place == torch.randint(1000, (), generator=generator)
    condition = by_generators().condition(40, range(2, 4))["classes"]
    assert condition.argmax(1).tolist() == places.tolist() and condition.shape == (2, 1000)
    assert by_generators((1, 8, 8)).images(40, range(2)).shape == (2, 1, 8, 8)
    with pytest.raises(SpecError, match="seeds: got .0, 1., allowed: 6 or more apart"):
        replace(SAMPLING, sampler=replace(SAMPLING.sampler, draws="generators"))
    replace(SAMPLING, sampler=replace(SAMPLING.sampler, draws="generators"), seeds=(6, 0))
    for seeds in ((0, 2**32), (3, 2**32 - 1)):  # the same generators, or some of them
        with pytest.raises(SpecError, match="6 or more apart, modulo 2.32"):
            replace(SAMPLING, sampler=replace(SAMPLING.sampler, draws="generators"), seeds=seeds)
    with pytest.raises(SpecError, match="draws: got 'generators', allowed: keys if S_churn"):
        replace(DRAWN[0], draws="generators", S_churn=1.0)


@pytest.mark.parametrize(("key", "value", "default"), [
    ("S_min", 0.05, "0.0"), ("S_max", 50.0, "inf"), ("S_noise", 1.003, "1.0")])
def test_settings_of_churn_are_refused_without_churn(key, value, default):
    assert getattr(replace(SAMPLING.sampler, S_churn=1.0, **{key: value}), key) == value
    with pytest.raises(SpecError, match=f"^{key}: got {value}, allowed: {default}: the sampler without"):
        replace(SAMPLING.sampler, S_churn=0.0, **{key: value})


@needs_reference
def test_draws_of_generators_are_those_of_the_reference():
    vectors, about = vectors_of("seeds")
    for number, noise, place in zip(json.loads(about["seeds"]), vectors["out.noise"],
                                    vectors["out.class_index"], strict=True):
        found, places = by_generators().of_generators(number, range(1))
        assert torch.equal(found[0], noise.double()) and places[0] == place


def test_weights_that_are_not_finite_are_refused_by_who_reads_them(mixture, annotations, tmp_path):
    path = run_training(mixture, annotations, tmp_path)
    arrays, about = read_arrays(path), read_description(path)
    name = next(n for n in arrays if n.startswith("160/"))
    arrays[name].flat[0] = np.inf
    save_weights(path, {n: torch.from_numpy(v) for n, v in arrays.items()}, about)
    loading.load_denoiser(path, 80, torch.device("cpu"))  # another snapshot is as good as it was
    with pytest.raises(ValueError, match=f"1 of .* not finite, the first is {name.removeprefix('160/')}"):
        loading.load_denoiser(path, None, torch.device("cpu"))
    with pytest.raises(ValueError, match="not finite"):
        sample.main(SAMPLING, RECORD, denoiser=path, state=kept(tmp_path / "s"), out=tmp_path / "out")


def test_samples_that_are_not_finite_are_no_black_images(mixture, annotations, tmp_path):
    denoiser, about = loading.load_denoiser(run_training(mixture, annotations, tmp_path), None,
                                           torch.device("cpu"))
    draw = sample.Draw(denoiser, about, *DRAWN, torch.device("cpu"))
    draw.denoiser = lambda x, sigma, condition: x * float("nan")
    with pytest.raises(FloatingPointError, match="samples 2 to 4 of seed 1 are not finite"):
        draw.images(1, range(2, 5))


def test_classes_follow_the_seed_and_each_step_has_noise_of_its_own(monkeypatch):
    about = {"spec": {"network": {"conditional": True}}, "num_classes": 3, "channels": 1, "resolution": 8}
    sampler = replace(DRAWN[0], S_churn=2.0)
    draw = sample.Draw(lambda x, sigma, told: 0 * x, about, sampler, "float32", torch.device("cpu"))
    index = draw.condition(7, range(200))["classes"].argmax(1).tolist()
    assert index == (uniform("class", 7, range(200)) * 3).astype(int).tolist()
    normal, streams = draw.normal, []
    monkeypatch.setattr(draw, "normal", lambda *given: streams.append(given[:2]) or normal(*given))
    draw.images(7, range(2))
    assert len(set(streams)) == len(streams) == 1 + sampler.num_steps and {seed for _, seed in streams} == {7}
