"""Training, sampling, classifier: determinism, resume, who may read what."""

import dataclasses
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import DRAWN, NETWORK, NOISE, RECORD, SAMPLING, TRAINING, kept, optimiser

from ambient import specs
from ambient.data.annotations import Annotations
from ambient.data.datasets import Dataset, read, write
from ambient.diffusion.augment import flipped
from ambient.diffusion.denoiser import Denoiser
from ambient.diffusion.eligible import Admission, EligibleSampler
from ambient.diffusion.randomness import normal, torch_generator, uniform
from ambient.jobs import ranks
from ambient.jobs.identity import Identity
from ambient.jobs.state import State
from ambient.specs import strict
from ambient.stages import sample, train
from ambient.storage.files import read_arrays, sha256
from ambient.training import hardware, loading, shares
from ambient.training.batches import AmbientBatches, check
from ambient.training.build import build_network
from ambient.training.loop import Fit, ema_beta, learning_rate
from ambient.training.weights import read_description, read_weights, save_weights
from tests import commands

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def annotations(mixture):
    path = mixture.parent / "annotations.safetensors"
    sigma_min = np.where(np.arange(60) < 20, 0.0, np.linspace(0.2, 2.0, 60))
    Annotations(np.arange(100, 160), sigma_min, np.zeros(60)).write(path)
    return path


def run_training(mixture, annotations, folder, made=TRAINING):
    train.main(made, RECORD, data=mixture, annotations=annotations, state=kept(folder / "state"),
               out=folder / "denoiser.safetensors", log=folder / "loss.jsonl")
    return folder / "denoiser.safetensors"


# --- the parts of a step ------------------------------------------------------------------------------


def batches(mixture, annotations, **loss):
    made = strict.build(specs.TrainingSpec, strict.plain(TRAINING) | {
        "loss": strict.plain(TRAINING.loss) | loss}, "test")
    data = read(mixture)
    network = build_network(NETWORK, 8, 1, 3, True, torch_generator("cpu", 0))
    return AmbientBatches(made, data, Annotations.read(annotations), Denoiser(network),
                                torch.device("cpu"))


def test_every_drawn_pair_is_admitted_and_sigma_tn_is_the_papers(mixture, annotations):
    made = batches(mixture, annotations)
    for nimg in range(0, 1600, 16):
        sigma, index, sigma_tn = made.draw(nimg)
        level = made.sigma_min[index]
        assert Admission(4.0).admits(sigma, level, torch.zeros_like(level)).all()
        assert torch.equal(sigma_tn, level)  # sigma_max = 0: every use is above sigma_min
    zero = batches(mixture, annotations, sigma_tn="zero")
    again = zero.draw(16)
    assert torch.equal(again[0], made.draw(16)[0]) and (again[2] == 0).all()


@pytest.mark.parametrize("beside", [np.float32, np.float64])
def test_levels_next_to_their_sigma_min_are_admitted_and_finite(mixture, tmp_path, beside):
    """Annotations one unit in the last place below each drawn sigma, no buffer: the least gap there can be.

    The levels themselves are not admitted: there the weight is infinite.
    """
    free = {"buffer": None, "weight": "ambient"}
    table, ids = tmp_path / "a.safetensors", np.arange(100, 160)
    Annotations(ids, np.zeros(60), np.zeros(60)).write(table)
    sigma = batches(mixture, table, **free).draw(0)[0].numpy().astype(beside).astype(float)
    below = np.nextafter(sigma.astype(beside), beside(0)).astype(float)
    for levels, admitted in ((below, True), (sigma, False)):
        sampler = EligibleSampler(levels, np.zeros(16), Admission())
        above, _ = sampler.count(sigma)
        assert (above == 1 + sigma.argsort().argsort() - (not admitted)).all()
    made = batches(mixture, table, **free)
    made.draw = lambda nimg: (torch.from_numpy(sigma), torch.arange(16), torch.from_numpy(below))
    loss = made.loss(0)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(w.grad).all() for w in made.denoiser.parameters() if w.grad is not None)


def test_flips_of_a_sample_are_flips_of_one_noisy_image(mixture, annotations):
    """The mean over flipped views, flipped back, has all of the fixed noise: none of it cancels."""
    made = batches(mixture, annotations)
    made.spec = dataclasses.replace(made.spec, augment=specs.AugmentSpec(1.0, ("xflip", "yflip")))
    index, level = torch.arange(60).repeat(20), torch.full((1200,), 0.7, dtype=torch.float64)
    x_tn, condition = made.views(index, level, torch_generator("cpu", "views"))
    labels = condition["augment"]
    assert len(labels[:, :2].unique(dim=0)) == 4
    back = flipped(x_tn, labels)
    plain = made.images + 0.7 * made.fixed[made.place]
    torch.testing.assert_close(back, plain[index])
    assert torch.equal(made.views(index, 0 * level, torch_generator("cpu", "views"))[0],
                       flipped(made.images[index], labels))


def test_below_sigma_max_the_ordinary_objective_is_used(mixture, tmp_path):
    table = tmp_path / "a.safetensors"
    Annotations(np.arange(100, 160), np.full(60, np.inf), np.full(60, 50.0)).write(table)
    sigma, _, sigma_tn = batches(mixture, table).draw(0)
    assert (sigma < 50).all() and (sigma_tn == 0).all()


def test_sigma_keeps_its_density_under_sigma_first(mixture, annotations):
    made = batches(mixture, annotations)
    sigma = torch.cat([made.draw(nimg)[0] for nimg in range(0, 16 * 600, 16)]).log()
    assert sigma.mean().item() == pytest.approx(NOISE.P_mean, abs=0.04)
    assert sigma.std().item() == pytest.approx(NOISE.P_std, abs=0.04)


def test_fixed_noise_is_one_draw_per_image_and_seed():
    a = normal("fixed-noise", 3, [5, 9], (1, 4, 4))
    b = normal("fixed-noise", 3, [9], (1, 4, 4))
    np.testing.assert_array_equal(a[1], b[0])
    assert not np.array_equal(a[0], a[1])
    assert not np.array_equal(normal("fixed-noise", 4, [9], (1, 4, 4)), b)
    assert abs(uniform("x", 0, range(4000)).mean() - 0.5) < 0.02


def test_learning_rate_and_ema_closed_forms():
    made = optimiser(nimg=1600, ramp_nimg=160)
    assert learning_rate(made, 0) == 0 and learning_rate(made, 80) == pytest.approx(5e-4)
    assert learning_rate(made, 880) == pytest.approx(5e-4)  # half of the cosine
    assert learning_rate(made, 1600) == pytest.approx(0, abs=1e-12)
    assert ema_beta(optimiser(ema_ramp=1.0), 10_000) == pytest.approx(0.5 ** (16 / 50))
    assert ema_beta(optimiser(ema_ramp=0.05), 32) == pytest.approx(0.5 ** (16 / 1.6))


def test_a_short_training_may_be_the_start_of_a_longer_ones_ramp():
    short = optimiser(nimg=160, ramp_nimg=320, decay="constant")
    longer = optimiser(nimg=1600, ramp_nimg=320, decay="constant")
    assert [learning_rate(short, n) for n in range(0, 160, 16)] == [learning_rate(longer, n) for n in
                                                                    range(0, 160, 16)]
    with pytest.raises(strict.SpecError, match="at most nimg if decay is cosine"):
        optimiser(nimg=160, ramp_nimg=320, decay="cosine")


def test_step_is_adam_with_clipping():
    """One step of a scalar: Adam's first step has length lr; the EMA follows the closed form."""
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(layer.weight, 2.0)
    fitting = Fit(layer, optimiser(ramp_nimg=0, decay="constant"))
    fitting.step(lambda nimg, share: (layer.weight**2).sum() * 100, 0)
    assert layer.weight.item() == pytest.approx(2.0 - 1e-3, rel=1e-5)
    beta = ema_beta(fitting.spec, 16)
    assert fitting.ema[0].item() == pytest.approx(beta * 2 + (1 - beta) * (2 - 1e-3))
    with pytest.raises(FloatingPointError, match="after 16 images"):
        fitting.step(lambda nimg, share: layer.weight.sum() * float("nan"), 16)


def test_a_batch_in_parts_has_the_gradient_of_the_whole(mixture, annotations, capsys):
    """Dropout and augmentation on; the memory is too small for more than four rows at a time."""
    found = {}
    for limit in (16, 4):
        made = batches(mixture, annotations)
        fitting = Fit(made.denoiser, TRAINING.optimiser)
        made.denoiser.train()
        forward = made.denoiser.forward

        def small(x, *rest, limit=limit, forward=forward):
            if len(x) > limit:
                raise torch.OutOfMemoryError
            return forward(x, *rest)

        made.denoiser.forward = small
        found[limit] = [fitting.step(made.loss, nimg) for nimg in (48, 64, 80)], fitting
    assert found[16][1].parts == 1 and found[4][1].parts == 4
    assert capsys.readouterr().err.count("out of GPU memory") == 2
    assert found[4][0] == pytest.approx(found[16][0], rel=1e-5)
    for one, other in zip(found[16][1].weights, found[4][1].weights, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    made.denoiser.forward = lambda *rest: small(*rest, limit=0)
    with pytest.raises(torch.OutOfMemoryError):  # one row at a time is too much still
        found[4][1].step(made.loss, 96)
    assert found[4][1].parts == 16


def test_parts_are_rows_of_ranks(monkeypatch):
    monkeypatch.setattr(ranks, "size", lambda: 2)
    monkeypatch.setattr(ranks, "rank", lambda: 1)
    assert shares.WHOLE.rows(16) == slice(8, 16)
    part = shares.Share(1, 4)
    assert part.rows(16) == slice(10, 12)
    with pytest.raises(ValueError, match="12 can't be shared by 2 ranks in 4 parts each"):
        part.rows(12)
    assert shares.WHOLE.rows(12) == slice(6, 12)


# --- resume -------------------------------------------------------------------------------------------


def test_snapshots_hold_the_ema_at_their_marks(mixture, annotations, tmp_path):
    out = run_training(mixture, annotations, tmp_path)
    names = {name.split("/")[0] for name in read_arrays(out)}
    assert names == {"80", "160"}
    early, late = (read_weights(out, f"{nimg}/") for nimg in (80, 160))
    assert any(not torch.equal(early[name], late[name]) for name in late)
    lines = [json.loads(line) for line in (tmp_path / "loss.jsonl").read_text().splitlines()]
    assert lines[-1]["nimg"] == 160 and all(np.isfinite(line["loss"]) for line in lines)


def test_killed_training_ends_in_the_same_bytes(mixture, annotations, tmp_path):
    """SIGKILL at five moments, resumed by the same command: equal digests, few steps done twice."""
    made = strict.build(specs.TrainingSpec, strict.plain(TRAINING) | {
        "optimiser": strict.plain(optimiser(nimg=16 * 400)), "snapshots": [16 * 200, 16 * 400]}, "test")
    inputs = {"data": mixture, "annotations": annotations}
    environment = os.environ | {"AMBIENT_CHECKPOINT_SECONDS": "0.05", "OMP_NUM_THREADS": "1",
                                "PYTHONPATH": str(ROOT)}

    def command(name):
        folder = tmp_path / name
        return commands.stage("train", made, **inputs, state=folder / "state", out=folder / "d.safetensors",
                              log=folder / "loss.jsonl")

    subprocess.run(command("whole"), check=True, env=environment, capture_output=True)
    state = tmp_path / "killed" / "state"
    for kill in range(1, 6):
        process = subprocess.Popen(command("killed"), env=environment,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        goal, deadline = 16 * 60 * kill + kill * 7, time.monotonic() + 120
        while newest(state) < goal and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        assert process.poll() is None, "training ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
    last = subprocess.run(command("killed"), check=True, env=environment,
                          capture_output=True, text=True)
    assert "resuming after" in last.stdout + last.stderr
    for name in ("d.safetensors", "loss.jsonl"):
        assert sha256(tmp_path / "whole" / name) == sha256(tmp_path / "killed" / name)


def newest(state):
    found = [int(path.stem.split("-")[1]) for path in state.glob("*/checkpoint-*.json")]
    return max(found, default=0)


def test_damaged_checkpoint_is_named_and_the_one_before_used(tmp_path, capsys):
    state = State(tmp_path, Identity("job", {"a.py": "1"}))
    for position in (10, 20, 30):
        state.save(position, {"x": torch.full((4,), float(position))}, {})
    assert state.checkpoints() == [30, 20]
    path = state.folder / "checkpoint-30.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert state.newest() == 20 and state.get("checkpoint-20")[0]["x"][0] == 20
    assert "checkpoint-30.safetensors" in capsys.readouterr().err


def test_state_of_other_settings_is_kept_and_not_used(tmp_path, capsys):
    State(tmp_path, Identity("a", {})).save(10, {"x": torch.zeros(1)}, {})
    other = State(tmp_path, Identity("b", {}))
    assert other.newest() == 0 and "kept, not used" in capsys.readouterr().err
    assert State(tmp_path, Identity("a", {})).newest() == 10


@pytest.mark.parametrize("able, expected", [({}, torch.float32), ({"avx512_bf16": True}, torch.bfloat16),
                                            ({"bf16": True}, torch.bfloat16)])
def test_bfloat16_only_where_the_processor_has_it(able, expected, monkeypatch, capsys):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    hardware.has_bfloat16.cache_clear()
    for precision, dtype in (("bfloat16", expected), ("float32", torch.float32)):
        with hardware.autocast(precision, torch.device("cpu")):
            assert torch.nn.functional.linear(torch.ones(1, 2), torch.ones(3, 2)).dtype == dtype
    assert ("float32 takes its place" in capsys.readouterr().err) == (not able)
    hardware.has_bfloat16.cache_clear()


# --- sampling -----------------------------------------------------------------------------------------


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
    for earlier in (None, 1):
        out = tmp_path / f"samples-{earlier}.safetensors"
        sample.main(dataclasses.replace(SAMPLING, earlier_seeds=earlier), RECORD, denoiser=denoiser,
                    state=kept(tmp_path / "s"), out=out)
        found.append(read_arrays(out))
    assert found[1]["80"].shape == (1, 6, 1, 8, 8)
    assert np.array_equal(found[0]["80"][:1], found[1]["80"])
    assert np.array_equal(found[0]["160"], found[1]["160"])


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


# --- what is not finite -------------------------------------------------------------------------------


def test_a_training_that_went_astray_names_its_last_good_checkpoint(mixture, annotations, tmp_path):
    """One step with a finite gradient, so long that the weights are infinite."""
    made = dataclasses.replace(TRAINING, snapshots=(16,), optimiser=optimiser(
        nimg=16, lr=1e38, ramp_nimg=0, decay="constant"))
    with pytest.raises(FloatingPointError, match="^after 16 images .* not finite.*Lower lr"):
        run_training(mixture, annotations, tmp_path, made)
    assert not (tmp_path / "denoiser.safetensors").exists()
    layer = torch.nn.Linear(2, 1)
    fitting = Fit(layer, optimiser(lr=2e-3))
    fitting.check(320, [])
    with torch.no_grad():
        layer.weight[0, 1] = float("nan")
    for saved, words in (([160, 80], "the last good checkpoint is after 160"), ([], "no checkpoint came")):
        with pytest.raises(FloatingPointError, match=f"after 320 images.*weights.weight; {words}.*0.002"):
            fitting.check(320, saved)


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
