"""EDM2's training: the learned log-variance, averages of several widths, others made of them afterwards."""

import copy
import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from edm2_vectors import REFERENCE, agree, needs_reference, of_reference, ours, vectors
from tiny import AUGMENT, DRAWN, RECORD, TRAINING, kept, optimiser

from ambient import specs
from ambient.data.annotations import Annotations
from ambient.diffusion import averages, schedules
from ambient.diffusion.denoiser import Denoiser, per_sample
from ambient.diffusion.eligible import Admission
from ambient.diffusion.network import constrain, constrained
from ambient.diffusion.networks.unet import UNet
from ambient.diffusion.noise import added_variance, ambient_weight, edm_weight
from ambient.diffusion.objective import ambient_loss, edm_loss, uncertain
from ambient.specs.strict import SpecError, plain
from ambient.stages import reconstruct, sample, train
from ambient.storage import arrays
from ambient.training import loading
from ambient.training.averaging import Reconstruction
from ambient.training.loop import Fit, learning_rate
from ambient.training.weights import read_description, read_weights, save_weights, snapshot

CPU = torch.device("cpu")
# (precision, tolerance of losses, of gradients, of what several training steps give)
PRECISIONS = [(torch.float32, 5e-6, 2e-5, 1e-5), (torch.float64, 1e-12, 1e-12, 1e-11)]
WIDTHS = [0.1, 0.2]
SEVERAL = dataclasses.replace(
    TRAINING, optimiser=optimiser(ema_stds=WIDTHS), snapshots=(32, 64, 96, 128, 160),
    loss=dataclasses.replace(TRAINING.loss, uncertainty=True))


# --- the learned log-variance -----------------------------------------------------------------------


def gradients_agree(denoiser, t, tolerance):
    found = {name: weight.grad for name, weight in denoiser.named_parameters()}
    names = [key.removeprefix("out64.grad.") for key in t if key.startswith("out64.grad.")]
    assert len(names) == 10
    for name in names:
        agree(found[ours(name)], t, f"grad.{name}", tolerance)
    return found


@needs_reference
@pytest.mark.parametrize(("dtype", "loss_tolerance", "tolerance", "_"), PRECISIONS)
def test_the_loss_and_its_gradients_are_the_references(dtype, loss_tolerance, tolerance, _):
    denoiser, _ = of_reference("unet_train", dtype)
    t, about = vectors("edm2_loss")
    denoiser.train()
    constrain(constrained(denoiser))
    sigma = (t["rnd_normal"].to(dtype) * float(about["P_std"]) + float(about["P_mean"])).exp()
    images = t["images"].to(dtype)
    D = denoiser(images + per_sample(sigma) * t["noise"], sigma, {"classes": t["class_labels"]})
    loss = uncertain(edm_loss(D, images, sigma, 0.5), denoiser.log_variance(sigma))
    scalar = loss.sum() / len(loss)
    scalar.backward()
    agree(sigma, t, "sigma", loss_tolerance)
    agree(loss, t, "loss", loss_tolerance)
    agree(scalar, t, "scalar", loss_tolerance)
    found = gradients_agree(denoiser, t, tolerance)
    norm = torch.stack([gradient.double().norm() for gradient in found.values()]).norm()
    agree(norm, t, "grad_norm_all", tolerance)


@needs_reference
@pytest.mark.parametrize(("dtype", "loss_tolerance", "tolerance", "_"), PRECISIONS)
def test_the_ambient_loss_with_it_is_the_references(dtype, loss_tolerance, tolerance, _):
    denoiser, _ = of_reference("unet_train", dtype)
    t, _ = vectors("ambient_latent_loss")
    sigma, level = t["sigma"].to(dtype), t["sigma_min"].to(dtype)
    sigma_tn = torch.where(Admission().above(sigma, level), level, torch.zeros_like(level))
    x_tn = t["x0"].to(dtype) + per_sample(sigma_tn) * t["fixed_noise"]
    x_t = x_tn + per_sample(added_variance(sigma, sigma_tn).sqrt()) * t["noise"]
    D = denoiser(x_t, sigma, {"classes": t["class_labels"]})
    loss = uncertain(ambient_loss(D, x_t, x_tn, sigma, sigma_tn, 0.5), denoiser.log_variance(sigma))
    scalar = loss.sum() / len(loss)
    scalar.backward()
    for name, value in {"sigma_tn": sigma_tn, "x_tn": x_tn, "x_t": x_t, "denoised": D, "loss": loss,
                        "edm_weight": edm_weight(sigma, 0.5), "scalar": scalar,
                        "lambda_amb": ambient_weight(sigma, sigma_tn),
                        "logvar": denoiser.log_variance(sigma)}.items():
        agree(value, t, name, loss_tolerance)
    gradients_agree(denoiser, t, tolerance)


def test_the_log_variance_that_minimises_the_loss_is_the_logarithm_of_the_error():
    """Of a head that may say anything of each of two levels, beside a denoiser that does not learn."""
    error = torch.tensor([[4.0, 2.0], [0.5, 0.1]]).reshape(2, 2, 1, 1)
    u = error.mean((1, 2, 3)).log().requires_grad_()
    slope, = torch.autograd.grad(uncertain(error, u).sum(), u)
    torch.testing.assert_close(slope, torch.zeros(2), atol=1e-6, rtol=0)
    assert all(uncertain(error, u + step).sum() > uncertain(error, u).sum() for step in (-0.1, 0.1))
    assert uncertain(error, u)[0].mean().item() == pytest.approx(1 + math.log(3), abs=1e-6)


def unet(seed=0):
    return UNet(resolution=8, channels_in=1, channels_out=1, model_channels=8, channel_mult=(1,),
                num_blocks=1, attn_resolutions=(), dropout=0.0, generator=torch.Generator().manual_seed(seed))


def test_a_denoiser_has_a_head_where_it_is_asked_for_and_says_the_same_without():
    sigma, x = torch.tensor([0.5, 3.0]), torch.randn(2, 1, 8, 8)
    without, with_head = Denoiser(unet()), Denoiser(unet(), uncertainty=torch.Generator().manual_seed(1))
    assert without.log_variance(sigma) is None
    assert with_head.log_variance(sigma).shape == (2,)
    assert torch.equal(without(x, sigma), with_head(x, sigma))
    more = with_head.state_dict().keys() - without.state_dict().keys()
    assert more == {"logvar_fourier.freqs", "logvar_fourier.phases", "logvar_linear.weight"}


# --- averages of several widths ---------------------------------------------------------------------


@needs_reference
@pytest.mark.parametrize(("dtype", "_", "__", "tolerance"), PRECISIONS)
def test_steps_and_their_averages_are_the_references(dtype, _, __, tolerance):
    denoiser, start = of_reference("unet_train", dtype)
    t, about = vectors("train_steps")
    made = optimiser(batch=4, nimg=16, lr=0.012, ramp_nimg=8, decay="inverse_sqrt", decay_nimg=8,
                     betas=[0.9, 0.99], clip=math.inf, ema_stds=json.loads(about["ema_stds"]))
    assert [learning_rate(made, nimg) for nimg in range(0, 16, 4)] == pytest.approx(json.loads(about["lr"]))
    fitting, probe = Fit(denoiser, made), copy.deepcopy(denoiser)

    def loss_of(nimg, share):
        step = nimg // 4
        sigma = (t["rnd_normal"][step].to(dtype) * 1.0 - 0.4).exp()
        images = t["images"][step].to(dtype)
        D = denoiser(images + per_sample(sigma) * t["noise"][step], sigma,
                     {"classes": t["class_labels"][step]})
        return uncertain(edm_loss(D, images, sigma, 0.5), denoiser.log_variance(sigma)).sum() / 4

    def probed(state):
        probe.load_state_dict(state)
        with torch.no_grad():
            return probe(start["x"], start["sigma"], {"classes": start["class_labels"]})

    losses, outputs = [], {"probe": [], "probe_ema_0.050": [], "probe_ema_0.100": []}
    for step in range(4):
        denoiser.train()
        losses.append(fitting.step(loss_of, 4 * step))
        for name, state in zip(outputs, [denoiser.state_dict(), *fitting.averaged()], strict=True):
            outputs[name].append(probed(state))
    agree(torch.tensor(losses, dtype=torch.float64), t, "loss", tolerance)
    for name, found in outputs.items():
        agree(torch.stack(found), t, name, tolerance)
    ends = {"weights": denoiser.state_dict()} | dict(zip(("ema_0.050", "ema_0.100"), fitting.averaged(),
                                                         strict=True))
    for key in t:
        group, _, name = key.removeprefix("out64.").partition(".unet.")
        if key.startswith("out64.") and group in ends:
            agree(ends[group][f"model.{name}"], t, key.removeprefix("out64."), tolerance)


@pytest.fixture(scope="module")
def annotations(tmp_path_factory):
    path = tmp_path_factory.mktemp("annotations") / "a.safetensors"
    ids = np.arange(100, 160)
    Annotations(ids, np.where(ids < 120, 0.0, 0.8), np.zeros(60)).write(path)
    return path


@pytest.fixture(scope="module")
def trained(mixture, annotations, tmp_path_factory):
    """Denoisers of several widths and of one, of one training otherwise, by number of widths."""
    folder, found = tmp_path_factory.mktemp("trained"), {}
    for count in (1, 2):
        out = folder / f"{count}.safetensors"
        made = dataclasses.replace(SEVERAL, optimiser=optimiser(ema_stds=WIDTHS[:count]))
        train.main(made, RECORD, data=mixture, annotations=annotations, state=kept(folder / f"state-{count}"),
                   out=out, log=folder / f"{count}.jsonl")
        found[count] = out
    return found


def test_a_further_width_is_further_tensors_beside_those_of_the_first(trained):
    one, two = (read_weights(trained[count]) for count in (1, 2))
    assert one.keys() < two.keys()
    assert two.keys() - one.keys() == {name.replace("/", "-ema-0.2/", 1) for name in one}
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())
    first, further = (read_weights(trained[2], snapshot(160, std)) for std in (None, 0.2))
    assert not torch.equal(first["logvar_linear.weight"], further["logvar_linear.weight"])
    assert torch.equal(first["logvar_fourier.freqs"], further["logvar_fourier.freqs"])
    denoiser, _ = loading.load_denoiser(trained[2], None, CPU)  # its head is of the file
    assert torch.equal(denoiser.logvar_linear.weight, first["logvar_linear.weight"])


def test_a_stopped_training_of_several_widths_ends_in_the_same_averages(mixture, annotations, tmp_path,
                                                                         monkeypatch, trained):
    from ambient.jobs import stopping

    files = {"data": mixture, "annotations": annotations, "state": kept(tmp_path / "state"),
             "out": tmp_path / "d.safetensors", "log": tmp_path / "l.jsonl"}
    steps, step = [], Fit.step
    monkeypatch.setattr(Fit, "step", lambda *given: steps.append(1) or step(*given))
    monkeypatch.setattr(stopping, "reason", lambda: "a test" if len(steps) == 3 else None)
    with pytest.raises(SystemExit):
        train.main(SEVERAL, RECORD, **files)
    train.main(SEVERAL, RECORD, **files)
    assert len(steps) == 10 and files["out"].read_bytes() == trained[2].read_bytes()


# --- averages that are made afterwards --------------------------------------------------------------


@needs_reference
def test_profiles_and_coefficients_are_the_references():
    found = json.loads((REFERENCE / "phema.json").read_text())
    for case in found["gamma_to_std"]:
        if case["gamma"] < 0:  # such weights fall with time
            continue
        assert schedules.power_gamma(case["std"]) == pytest.approx(case["gamma"], rel=1e-9)
    for case in found["inner_products"]:
        a, b = ((np.array([case[f"{of}_nimg"]], float), np.array([schedules.power_gamma(case[f"{of}_std"])]))
                for of in "ab")
        assert averages.inner_products(*a, *b)[0, 0] == pytest.approx(case["inner_product"], rel=1e-12)
    for case in found["posthoc"]:
        for std, expected, left in zip(case["out_std"], case["coefficients"], case["relative_profile_error"],
                                       strict=True):
            counts, error = averages.coefficients(case["in_nimg"], case["in_std"], case["out_nimg"], std)
            assert np.abs(counts - expected).max() < 1e-9
            assert error == pytest.approx(left, rel=1e-6, abs=1e-12)


@needs_reference
def test_reconstructions_of_a_path_are_the_references():
    t, about = vectors("phema_path")
    t = {name: tensor.double().numpy() for name, tensor in t.items()}
    allowed = json.loads(about["max_abs_reconstructed_minus_direct"])
    for end, key in (("out_nimg", "coefficients"), ("mid_nimg", "coefficients_mid")):
        early = t["snapshot_nimg"] <= int(about[end])
        for place, std in enumerate(t["out_std"]):
            counts, _ = averages.coefficients(t["snapshot_nimg"][early], t["snapshot_std"][early],
                                              int(about[end]), std)
            assert np.abs(counts - t[f"out.{key}"][:, place]).max() < 1e-9
            if end == "out_nimg":
                made = counts @ t["snapshots"]
                expected = t["out64.reconstructed"][place]
                assert np.abs(made - expected).max() < 1e-12 * np.abs(expected).max()
                direct = np.abs(made - t["out64.direct"][place]).max()
                assert direct < 1.05 * allowed[f"{std:g}"] + 1e-5


def test_coefficients_add_up_to_one_and_find_a_width_that_was_kept():
    times, stds = [100, 100, 200, 200, 300, 300], [0.05, 0.1] * 3
    counts, error = averages.coefficients(times, stds, 300, 0.1)
    assert counts == pytest.approx([0, 0, 0, 0, 0, 1], abs=1e-12) and error < 1e-14
    counts, error = averages.coefficients(times, stds, 300, 0.07)
    assert counts.sum() == pytest.approx(1, rel=1e-14) and 0 < error < 0.01
    # The integral of two profiles' product, by Simpson's rule.
    t = np.linspace(0, 1, 20_001)
    one, other = ((gamma + 1) * t**gamma for gamma in (2.0, 5.0))
    other = np.where(t <= 0.5, 6 * (2 * t) ** 5 * 2, 0)
    halves = t <= 0.5
    numeric = np.trapezoid((one * other)[halves], t[halves])
    exact = averages.inner_products(*(np.array([value]) for value in (0.5, 5.0, 1.0, 2.0)))[0, 0]
    assert exact == pytest.approx(numeric, rel=1e-6)


def test_a_reconstruction_is_near_what_tracking_that_width_gives(mixture, annotations, trained, tmp_path):
    """The stage, against a training that kept the width itself; what was kept is found again."""
    record = copy.deepcopy(RECORD)
    out, wanted = tmp_path / "d.safetensors", specs.ReconstructionSpec(0.14, (96, 160))
    reconstruct.main(wanted, record, denoiser=trained[2], out=out)
    direct = tmp_path / "direct.safetensors"
    train.main(dataclasses.replace(SEVERAL, optimiser=optimiser(ema_stds=[0.14])), RECORD, data=mixture,
               annotations=annotations, state=kept(tmp_path / "state"), out=direct, log=tmp_path / "l.jsonl")
    assert set(record.facts["profile_errors"]) == {"96", "160"}
    assert 0 < record.facts["profile_errors"]["160"] < 0.01
    made, tracked = (read_weights(path, snapshot(160)) for path in (out, direct))
    kept_first = read_weights(trained[2], snapshot(160))
    assert made.keys() == tracked.keys()
    for name, tensor in made.items():
        off, far = (tensor - tracked[name]).abs().max(), (kept_first[name] - tracked[name]).abs().max()
        assert off <= 0.1 * far, name  # far nearer than the nearest width that was kept; buffers are equal
    about = read_description(out)
    assert about["spec"]["snapshots"] == [96, 160] and about["spec"]["optimiser"]["ema_stds"] == [0.14]
    loading.load_denoiser(out, 96, CPU)
    reconstruct.main(specs.ReconstructionSpec(0.2, (160,)), record, denoiser=trained[2], out=out)
    for name, tensor in read_weights(trained[2], snapshot(160, 0.2)).items():
        torch.testing.assert_close(read_weights(out, snapshot(160))[name], tensor, atol=1e-6, rtol=1e-6)


def kept_path(path, precision, widths=(0.05, 0.1), count=64):
    """What a training keeps whose weights at time t in [0, 1] are random sums of t, t^2 and t^3. Returns the
    averages of any width at T = 1: that of t^k until T, by exponent g, is (g + 1) / (g + 1 + k) T^k.
    """
    powers = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    sums = torch.randn(500, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def average(std, time):
        g = schedules.power_gamma(std)
        return sums @ ((g + 1) / (g + 1 + powers) * time**powers)

    batch = 1000
    tensors, spec = {}, optimiser(ema_stds=list(widths), snapshot_precision=precision)
    for number in range(1, count + 1):
        found = [{"w": average(std, number / count).float(), "b": torch.ones(3)} for std in widths]
        tensors |= train.named(number * batch, found, spec, {"w"})
    save_weights(path, tensors, {"spec": {"snapshots": [batch * (i + 1) for i in range(count)],
                                          "optimiser": {"ema_stds": list(widths)}}})
    return lambda std: average(std, 1.0)


def test_float16_snapshots_cost_narrow_widths_their_digits(tmp_path):
    """The error of a made average, relative to the weights, by width and by what the snapshots keep."""
    errors = {}
    for precision in ("float32", "float16"):
        path = tmp_path / f"{precision}.safetensors"
        exact = kept_path(path, precision)
        assert read_weights(path, "1000/")["w"].dtype == getattr(torch, precision)
        assert read_weights(path, "1000/")["b"].dtype == torch.float32  # buffers stay as they are
        for std in (0.015, 0.07):
            made = dict(Reconstruction(path, read_description(path), 64_000, std))
            off = made["64000/w"].double() - exact(std)
            errors[precision, std] = float(off.norm() / exact(std).norm())
            assert made["64000/w"].dtype == torch.float32 and torch.equal(made["64000/b"], torch.ones(3))
    assert errors["float32", 0.015] < 2e-5 and errors["float32", 0.07] < 1e-6
    assert 4e-3 < errors["float16", 0.015] < 8e-3  # 500 times as much, of a rounding of 2^-11 = 5e-4
    assert 1e-4 < errors["float16", 0.07] < 3e-4
    assert path.stat().st_size < 0.6 * path.with_stem("float32").stat().st_size


def many(path, value=1.0):
    """Four snapshots of 20 tensors of 100 kB, two averages each; the last tensor of the file has `value`."""
    spec = {"snapshots": [8, 16, 24, 32], "optimiser": {"ema_stds": [0.05, 0.1]}}
    tensors = {f"{snapshot(nimg, std)}w{k:02}": torch.full((100, 250), 1.0)
               for nimg in spec["snapshots"] for std in (None, 0.1) for k in range(20)}
    tensors["32/w19"][-1, -1] = value
    save_weights(path, tensors, {"num_classes": 0, "spec": spec})
    return path


def test_a_reconstruction_has_one_tensor_in_memory_and_says_how_far_it_is(tmp_path, capsys, monkeypatch):
    """Of each it reads the last average and all until then, from the file and no map of it, and writes it."""
    path, out, deeds = many(tmp_path / "many.safetensors"), tmp_path / "out", []
    rows, put = arrays.Stored.rows, arrays.Writer.put
    monkeypatch.setattr(arrays.Stored, "rows", lambda *given: deeds.append("rows") or rows(*given))
    monkeypatch.setattr(arrays.Writer, "put", lambda *given: deeds.append("put") or put(*given))
    reconstruct.main(specs.ReconstructionSpec(0.07, (16, 32)), copy.deepcopy(RECORD), denoiser=path, out=out)
    assert deeds == 20 * [*5 * ["rows"], "put"] + 20 * [*9 * ["rows"], "put"]
    assert "reconstruct: 1,000,000/1,000,000 weights" in capsys.readouterr().err
    assert {name: tensor.mean() for name, tensor in read_weights(out).items()} == {
        f"{nimg}/w{k:02}": 1.0 for nimg in (16, 32) for k in range(20)}


def test_a_reconstruction_of_damaged_weights_is_refused_and_leaves_no_file(tmp_path):
    path, out = many(tmp_path / "many.safetensors", math.nan), tmp_path / "out.safetensors"
    with pytest.raises(ValueError, match=f"{path}: 32/w19 is not finite: damaged, or of a training"):
        reconstruct.main(specs.ReconstructionSpec(0.07, (32,)), RECORD, denoiser=path, out=out)
    assert not any(tmp_path.glob("*out*"))


def test_a_weight_beyond_float16_is_refused():
    spec = optimiser(ema_stds=[0.1], snapshot_precision="float16")
    with pytest.raises(ValueError, match="float16 holds nothing beyond 65504"):
        train.named(8, [{"w": torch.tensor([7e4])}], spec, {"w"})


def test_what_cannot_be_reconstructed_or_sampled_is_refused(mixture, annotations, trained, tmp_path):
    out = tmp_path / "d.safetensors"
    with pytest.raises(ValueError, match="has no snapshot at nimg 48, its snapshots are"):
        reconstruct.main(specs.ReconstructionSpec(0.14, (48,)), RECORD, denoiser=trained[2], out=out)
    with pytest.raises(SpecError, match=r"ema_std: got 0.3, allowed: \(0, 0.2887\)"):
        specs.ReconstructionSpec(0.3, (160,))
    plainly = tmp_path / "plain.safetensors"
    train.main(TRAINING, RECORD, data=mixture, annotations=annotations, state=kept(tmp_path / "state"),
               out=plainly, log=tmp_path / "l.jsonl")
    with pytest.raises(ValueError, match="kept no average by a power function"):
        reconstruct.main(specs.ReconstructionSpec(0.14, (160,)), RECORD, denoiser=plainly, out=out)
    sampling = specs.SamplingSpec(DRAWN[0], 4, (0,), "float32", ema_std=0.14)
    with pytest.raises(ValueError, match="its average has the width 0.1, the .* ema_std is 0.14"):
        sample.main(sampling, RECORD, denoiser=trained[2], state=kept(tmp_path / "s"), out=tmp_path / "x")
    with pytest.raises(SpecError, match="ema_std: got 0.5"):
        specs.SamplingSpec(DRAWN[0], 4, (0,), "float32", ema_std=0.5)


def test_a_classifier_keeps_one_average():
    with pytest.raises(SpecError, match=r"optimiser.ema_stds: got \(0.1, 0.2\), allowed: one width, or none"):
        specs.ClassifierSpec(TRAINING.network, AUGMENT, optimiser(ema_stds=(0.1, 0.2)), TRAINING.noise,
                             "strict", None, "balanced", 0.25, 2, "best", "none", 0)


def test_what_came_later_is_left_out_where_it_is_not_used():
    assert "uncertainty" not in plain(TRAINING.loss) and plain(SEVERAL.loss)["uncertainty"] is True
    assert "ema_std" not in plain(specs.SamplingSpec(DRAWN[0], 4, (0,), "float32"))


def test_the_head_of_the_variance_is_told_a_quarter_of_the_logarithm():
    made, sigma = Denoiser(unet(), uncertainty=torch.Generator().manual_seed(1)), torch.tensor([0.5, 3.0])
    expected = made.logvar_linear(made.logvar_fourier(sigma.log() / 4))[:, 0]
    torch.testing.assert_close(made.log_variance(sigma), expected)
