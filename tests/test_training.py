"""Training, sampling, classifier: determinism, resume, who may read what."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ambient import annotate, classifier, config, corrupt, loading, prepare, sample, spec, strict, train
from ambient.annotations import Annotations
from ambient.datasets import Dataset, read, to_float, write
from ambient.denoiser import Denoiser, build_unet, read_weights
from ambient.files import read_arrays, sha256
from ambient.fit import Fit, ema_beta, learning_rate
from ambient.loading import Classifier
from ambient.noise import admits
from ambient.randomness import normal, torch_generator, uniform
from ambient.trajectories import Dense, first_crossing

ROOT = Path(__file__).parents[1]
RECORD = SimpleNamespace(facts={}, external=lambda *arguments: None)


def optimiser(**changes):
    return spec.OptimiserSpec(**{
        "nimg": 160, "batch": 16, "lr": 1e-3, "ramp_nimg": 32, "decay": "cosine", "clip": 1.0,
        "ema_halflife_nimg": 50, "ema_ramp": 0.5, "precision": "float32"} | changes)


NETWORK = spec.NetworkSpec(8, (1, 2), 1, (), 0.1)
AUGMENT = spec.AugmentSpec(0.3, ("scale", "rotate"))
NOISE = spec.NoiseSpec(-0.5, 1.2)
TRAINING = spec.TrainingSpec(NETWORK, AUGMENT, optimiser(), NOISE,
                             spec.LossSpec("ambient", None, 4.0, "sigma_min"), 0.5, (80, 160), 3)
CLASSIFIER = spec.ClassifierSpec(NETWORK, AUGMENT, optimiser(), NOISE, "strict", None, "balanced", 0.25,
                                 2, "best", "none", 0)
SAMPLING = spec.SamplingSpec(spec.SamplerSpec(4, 0.01, 20.0, 7.0), 6, (0, 1), "float32")


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    """60 8x8 images, 20 clean, 40 of them lowered in contrast."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (60, 1, 8, 8), dtype=np.uint8)
    corrupted = (np.arange(60) >= 20).astype(np.uint8)
    images[20:] = images[20:] // 4 + 96
    path = tmp_path_factory.mktemp("data") / "mixture.safetensors"
    write(path, Dataset(images, np.arange(60) % 3, np.arange(100, 160), corrupted))
    return path


@pytest.fixture(scope="module")
def annotations(mixture):
    path = mixture.parent / "annotations.safetensors"
    sigma_min = np.where(np.arange(60) < 20, 0.0, np.linspace(0.2, 2.0, 60))
    Annotations(np.arange(100, 160), sigma_min, np.zeros(60)).write(path)
    return path


def run_training(mixture, annotations, folder, made=TRAINING):
    train.main(made, RECORD, data=mixture, annotations=annotations, state=folder / "state",
               out=folder / "denoiser.safetensors", log=folder / "loss.jsonl")
    return folder / "denoiser.safetensors"


# --- the parts of a step ------------------------------------------------------------------------------


def batches(mixture, annotations, **loss):
    made = strict.build(spec.TrainingSpec, strict.plain(TRAINING) | {
        "loss": strict.plain(TRAINING.loss) | loss}, "test")
    data = read(mixture)
    network = build_unet(NETWORK, 8, 1, 3, True, torch_generator("cpu", 0))
    return train.AmbientBatches(made, data, Annotations.read(annotations), Denoiser(network),
                                torch.device("cpu"))


def test_every_drawn_pair_is_admitted_and_sigma_tn_is_the_papers(mixture, annotations):
    made = batches(mixture, annotations)
    for nimg in range(0, 1600, 16):
        sigma, index, sigma_tn = made.draw(nimg)
        level = made.sigma_min[index]
        assert admits(sigma, level, torch.zeros_like(level), 4.0).all()
        assert torch.equal(sigma_tn, level)  # sigma_max = 0: every use is above sigma_min
    zero = batches(mixture, annotations, sigma_tn="zero")
    again = zero.draw(16)
    assert torch.equal(again[0], made.draw(16)[0]) and (again[2] == 0).all()


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


def test_step_is_adam_with_clipping():
    """One step of a scalar: Adam's first step has length lr; the EMA follows the closed form."""
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(layer.weight, 2.0)
    fitting = Fit(layer, optimiser(ramp_nimg=0, decay="constant"))
    fitting.step(lambda nimg: (layer.weight**2).sum() * 100, 0)
    assert layer.weight.item() == pytest.approx(2.0 - 1e-3, rel=1e-5)
    beta = ema_beta(fitting.spec, 16)
    assert fitting.ema[0].item() == pytest.approx(beta * 2 + (1 - beta) * (2 - 1e-3))
    with pytest.raises(FloatingPointError, match="after 16 images"):
        fitting.step(lambda nimg: layer.weight.sum() * float("nan"), 16)


# --- resume -------------------------------------------------------------------------------------------


def test_snapshots_hold_the_ema_at_their_marks(mixture, annotations, tmp_path):
    out = run_training(mixture, annotations, tmp_path)
    names = {name.split("/")[0] for name in read_arrays(out)}
    assert names == {"80", "160"}
    early, late = (read_weights(out, f"{nimg}/") for nimg in (80, 160))
    assert any(not torch.equal(early[name], late[name]) for name in late)
    lines = [json.loads(line) for line in (tmp_path / "loss.jsonl").read_text().splitlines()]
    assert lines[-1]["nimg"] == 160 and all(np.isfinite(line["loss"]) for line in lines)
    assert not (tmp_path / "state").exists()


def test_killed_training_ends_in_the_same_bytes(mixture, annotations, tmp_path):
    """SIGKILL at five moments, resumed by the same command: equal digests, few steps done twice."""
    made = strict.build(spec.TrainingSpec, strict.plain(TRAINING) | {
        "optimiser": strict.plain(optimiser(nimg=16 * 400)), "snapshots": [16 * 200, 16 * 400]}, "test")
    command = [sys.executable, "-m", "ambient.train", "--spec", strict.to_json(made), "--data", mixture,
               "--annotations", annotations]
    environment = os.environ | {"AMBIENT_CHECKPOINT_SECONDS": "0.05", "OMP_NUM_THREADS": "1",
                                "PYTHONPATH": str(ROOT)}

    def outputs(name):
        folder = tmp_path / name
        return ["--state", folder / "state", "--out", folder / "d.safetensors",
                "--log", folder / "loss.jsonl"]

    subprocess.run([*command, *outputs("whole")], check=True, env=environment, capture_output=True)
    state = tmp_path / "killed" / "state"
    for kill in range(1, 6):
        process = subprocess.Popen([*command, *outputs("killed")], env=environment,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        goal, deadline = 16 * 60 * kill + kill * 7, time.monotonic() + 120
        while newest(state) < goal and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        assert process.poll() is None, "training ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
    last = subprocess.run([*command, *outputs("killed")], check=True, env=environment,
                          capture_output=True, text=True)
    assert "resuming after" in last.stdout + last.stderr
    for name in ("d.safetensors", "loss.jsonl"):
        assert sha256(tmp_path / "whole" / name) == sha256(tmp_path / "killed" / name)


def newest(state):
    found = [int(path.stem.split("-")[1]) for path in state.glob("*/checkpoint-*.json")]
    return max(found, default=0)


def test_damaged_checkpoint_is_named_and_the_one_before_used(tmp_path, capsys):
    from ambient.runtime import State

    state = State(tmp_path, "a")
    for position in (10, 20, 30):
        state.save(position, {"x": torch.full((4,), float(position))}, {})
    assert state.checkpoints() == [30, 20]
    path = state.folder / "checkpoint-30.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    position, tensors, _ = state.load()
    assert position == 20 and tensors["x"][0] == 20
    assert "checkpoint-30.safetensors" in capsys.readouterr().err


def test_state_of_other_settings_is_kept_and_not_used(tmp_path, capsys):
    from ambient.runtime import State

    State(tmp_path, "a").save(10, {"x": torch.zeros(1)}, {})
    other = State(tmp_path, "b")
    assert other.load() is None and "kept, not used" in capsys.readouterr().err
    assert State(tmp_path, "a").load()[0] == 10


# --- sampling -----------------------------------------------------------------------------------------


def test_a_sample_does_not_depend_on_its_batch(mixture, annotations, tmp_path, monkeypatch):
    denoiser = run_training(mixture, annotations, tmp_path)
    found = []
    for size in (6, 4, 1):
        monkeypatch.setitem(sample.BATCH, "cpu", size)
        out = tmp_path / f"samples-{size}.safetensors"
        sample.main(SAMPLING, RECORD, denoiser=denoiser, state=tmp_path / "s", out=out)
        found.append(read_arrays(out)["160"].astype(int))
    assert found[0].shape == (2, 6, 1, 8, 8)
    for other in found[1:]:
        assert abs(found[0] - other).max() <= 1  # of 255: rounding of another batch shape
    assert not np.array_equal(found[0][0], found[0][1])


def test_sampling_resumes_from_finished_shards(mixture, annotations, tmp_path, monkeypatch):
    denoiser = run_training(mixture, annotations, tmp_path)
    drawn, whole = [], sample.Draw.images

    def images(self, seed, ids):
        drawn.append(seed)
        if len(drawn) == 3:
            raise KeyboardInterrupt
        return whole(self, seed, ids)

    monkeypatch.setattr(sample.Draw, "images", images)
    files = {"denoiser": denoiser, "state": tmp_path / "s", "out": tmp_path / "o.safetensors"}
    with pytest.raises(KeyboardInterrupt):
        sample.main(SAMPLING, RECORD, **files)
    sample.main(SAMPLING, RECORD, **files)
    assert len(drawn) == 3 + 2  # of 4 shards: two were on disk


def test_class_conditional_training_and_sampling(mixture, annotations, tmp_path):
    """The labels reach the network: other classes, other samples from the same latents."""
    made = strict.build(spec.TrainingSpec, strict.plain(TRAINING) | {
        "network": strict.plain(NETWORK) | {"conditional": True}}, "test")
    denoiser, about = loading.load_denoiser(run_training(mixture, annotations, tmp_path, made), 160,
                                           torch.device("cpu"))
    assert about["num_classes"] == 3
    torch.nn.init.normal_(denoiser.model.map_label.weight)
    torch.nn.init.normal_(denoiser.model.dec["8x8_aux_conv"].weight)
    draw = sample.Draw(denoiser, about, SAMPLING, torch.device("cpu"))
    with_classes = draw.images(0, range(6))
    draw.classes = 0
    assert not np.array_equal(draw.images(0, range(6)), with_classes)
    data = read(mixture)
    with pytest.raises(ValueError, match="images without a label"):
        train.check(made, Dataset(data.images, np.full(60, -1), data.ids, data.corrupted))


# --- classifier and annotation ------------------------------------------------------------------------


def test_classifier_draws_are_balanced_and_never_held_out(mixture):
    data = read(mixture)
    made = classifier.ClassifierBatches(CLASSIFIER, data, None, torch.device("cpu"))
    held = set(np.concatenate(made.split.held_out))
    assert [len(rows) for rows in made.split.held_out] == [5, 10]
    for nimg in range(0, 320, 16):
        rows, labels = made.draw(nimg)
        assert labels.sum() == 8 and not held & set(rows)
        np.testing.assert_array_equal(data.corrupted[rows], labels)
    unbalanced = classifier.ClassifierBatches(
        strict.build(spec.ClassifierSpec, strict.plain(CLASSIFIER) | {"sampling": "unbalanced"}, "t"),
        data, None, torch.device("cpu"))
    share = np.mean([unbalanced.draw(nimg)[1].mean() for nimg in range(0, 16_000, 16)])
    assert share == pytest.approx(30 / 45, abs=0.02)


def test_too_few_clean_images_are_refused():
    images = np.zeros((10, 1, 8, 8), np.uint8)
    corrupted = np.array([0] * 2 + [1] * 8, np.uint8)
    data = Dataset(images, np.zeros(10, np.int64), np.arange(10), corrupted)
    with pytest.raises(ValueError, match="2 clean images"):
        classifier.split(data, 0.2, 0)


def test_classifier_and_annotation_end_to_end(mixture, tmp_path):
    files = {"out": tmp_path / "c.safetensors", "calibration": tmp_path / "c.json"}
    classifier.main(CLASSIFIER, RECORD, data=mixture, state=tmp_path / "s", **files)
    report = json.loads(files["calibration"].read_text())
    assert report["chosen_nimg"] == min(report["history"], key=lambda r: r["cross_entropy"])["nimg"]
    made = spec.AnnotationSpec("per_sample", None, 0.05, 6, "geometric", NOISE, 0.05, 20.0, 2, 1,
                               "last", "float32", 0)
    out = tmp_path / "a.safetensors"

    def run(data):
        annotate.main(made, RECORD, data=data, classifier=files["out"], state=tmp_path / "t",
                      out=out, summary=tmp_path / "a.json")
        return Annotations.read(out)

    whole = run(mixture)
    assert (whole.sigma_min[:20] == 0).all()
    assert set(whole.sigma_min[20:]) <= set(np.geomspace(0.05, 20.0, 6))
    part = read(mixture)
    keep = np.r_[0:20, 40:60]
    write(tmp_path / "part.safetensors", Dataset(part.images[keep], part.labels[keep], part.ids[keep],
                                                part.corrupted[keep]))
    np.testing.assert_array_equal(run(tmp_path / "part.safetensors").sigma_min, whole.sigma_min[keep])


def test_recalibration_shifts_held_out_logits_to_balance():
    """Logits l and -l need no shift; shifted by b, they need -b; at any optimum the mean P is 1/2."""
    values = torch.linspace(-3, 2, 50, dtype=torch.float64)
    assert classifier.held_out_offset(values, -values) == pytest.approx(0, abs=1e-9)
    assert classifier.held_out_offset(values + 0.7, -values + 0.7) == pytest.approx(-0.7, abs=1e-9)
    clean, corrupted = values - 1, values[10:] + 0.5
    offset = classifier.held_out_offset(clean, corrupted)

    def entropy(shift):
        losses = [torch.nn.functional.binary_cross_entropy_with_logits(v + shift, torch.full_like(v, kind))
                  for kind, v in enumerate((clean, corrupted))]
        return float(sum(losses) / 2)

    assert entropy(offset) < min(entropy(offset - 0.01), entropy(offset + 0.01))


def test_recalibrated_classifier_is_used_in_annotation(mixture, tmp_path):
    made = strict.build(spec.ClassifierSpec, strict.plain(CLASSIFIER) | {"recalibrate": "bias"}, "t")
    files = {"out": tmp_path / "c.safetensors", "calibration": tmp_path / "c.json"}
    classifier.main(made, RECORD, data=mixture, state=tmp_path / "s", **files)
    for level in json.loads(files["calibration"].read_text())["levels"]:
        both = level["p_clean_of_clean"] + level["p_clean_of_corrupted"]
        assert both / 2 == pytest.approx(0.5, abs=1e-5)
    grid = spec.AnnotationSpec("per_sample", None, 0.05, 6, "geometric", NOISE, 0.05, 20.0, 1, 1,
                               "last", "float32", 0)
    shifted, plain = (Dense(grid, Classifier(files["out"], torch.device("cpu")), torch.device("cpu"))
                      for _ in range(2))
    plain.classifier.shifts = np.zeros_like(plain.classifier.shifts)
    offsets = shifted.classifier.offset(shifted.sigmas)
    assert np.abs(offsets).max() > 1e-4
    data = read(mixture)
    p, q = (found.of(data.images[:3], data.ids[:3]).astype(np.float64) for found in (shifted, plain))
    np.testing.assert_allclose(np.log(p / (1 - p)) - np.log(q / (1 - q)),
                               np.broadcast_to(offsets, p.shape), atol=1e-4)


def test_annotation_is_monotone_in_corruption_strength(tmp_path):
    """A well-trained classifier on a closed-form problem: constant images of two brightnesses.

    P(corrupted | x, sigma) for grey levels 0 (clean) and d (corrupted) of 64 pixels is the logistic of
    (64 / sigma^2)(d mean(x) - d^2 / 2); its expected crossing grows in proportion to d.
    """
    sigmas = np.geomspace(0.05, 50, 800)
    random = np.random.default_rng(0)
    crossings = []
    for d in (0.1, 0.2, 0.4):
        mean = d + sigmas / 8 * random.standard_normal((400, 1))
        p = 1 / (1 + np.exp(-(64 / sigmas**2) * (d * mean - d**2 / 2)))
        crossings.append(first_crossing(sigmas, p.mean(0, keepdims=True), 0.05, "last")[0])
    assert crossings[0] < crossings[1] < crossings[2]
    assert crossings[2] / crossings[0] == pytest.approx(4, rel=0.1)


# --- which images each stage may read -----------------------------------------------------------------


def test_no_stage_after_corrupt_can_see_a_clean_version(tmp_path):
    """The strict protocol: what classifier, annotation and training read holds no hidden original."""
    dataset = spec.DatasetSpec("mnist", 16, 1, padding=2, max_images=200)
    prepare.main(dataset, RECORD, raw=None, out=tmp_path / "d.safetensors")
    original = read(tmp_path / "d.safetensors")
    made = spec.MixtureSpec(0.1, 0, "gaussian_blur", {"sigma_px": 0.8})
    corrupt.main(made, RECORD, data=tmp_path / "d.safetensors", out=tmp_path / "m.safetensors")
    mixed = read(tmp_path / "m.safetensors")
    hidden = {image.tobytes() for image in original.images[mixed.corrupted == 1]}
    assert not hidden & {image.tobytes() for image in mixed.images}
    clean = mixed.images[mixed.corrupted == 0]
    np.testing.assert_array_equal(clean, original.images[mixed.corrupted == 0])


def test_strict_classifier_reads_the_runs_own_mixture_and_leaky_another():
    found = config.Experiments(ROOT / "config", "paper")
    own = found.fraction("controlled")
    assert found.fraction("controlled", "balanced") == found.fraction("controlled", "unbalanced") == own
    assert found.fraction("controlled", "leaky") == 0.5 != own
    assert to_float(np.array([[[[0]]]], np.uint8)).item() == -1


def test_classifier_says_where_it_failed():
    def level(accuracy, sigma):
        return {"accuracy": accuracy, "sigma": sigma}

    good = classifier.verdict({"nimg": 6400, "levels": [level(0.97, 0.1), level(0.5, 10.0)]})
    assert "6,400" in good and "0.97 at sigma 0.1" in good and "WARNING" not in good
    weak = classifier.verdict({"nimg": 6400, "levels": [level(0.67, 0.1), level(0.69, 0.2)]})
    assert "0.69 at sigma 0.2" in weak and "WARNING" in weak and "clean_fraction" in weak
