"""EDM2's presets against the published settings, each written here once more."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from ambient.settings import Experiments
from ambient.training.build import build_network

ROOT = Path(__file__).parents[1]
REFERENCE = Path(os.environ.get("AMBIENT_REFERENCE", Path(__file__).parents[2] / "shared/reference"))
MI = 2**20
# Width, learning rate, dropout, images seen (Karras et al. 2024), and the parameters with the log-variance
# head, as they were counted in the reference network.
PRESETS = {"xxs": (64, 0.0170, 0.0, 2048 * MI, 31_309_029),
           "xs": (128, 0.0120, 0.0, 2048 * MI, 124_713_253),
           "s": (192, 0.0100, 0.0, 2048 * MI, 280_212_837),
           "m": (256, 0.0090, 0.1, 2048 * MI, 497_807_781),
           "l": (320, 0.0080, 0.1, 1792 * MI, 777_498_085),
           "xl": (384, 0.0070, 0.1, 1280 * MI, 1_119_283_749),
           "xxl": (448, 0.0065, 0.1, 896 * MI, 1_523_164_773),
           "xs-unconditional": (128, 0.0120, 0.0, 2048 * MI, 124_201_253)}
HEAD = 128  # weights of the log-variance head


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The paper's scale with a run of each preset, in a table."""
    config = tmp_path_factory.mktemp("presets") / "config"
    shutil.copytree(ROOT / "config", config, ignore=shutil.ignore_patterns("local.yaml", "site.yaml"))
    runs = "".join(f"  {name}: {{study: edm2-{name}, corruption: none, annotation: all}}\n"
                   for name in PRESETS)
    rows = ", ".join(PRESETS)
    (config / "scales/presets.yaml").write_text(
        f"runs:\n{runs}tables: {{presets: {{title: Presets, rows: [{rows}]}}}}\n")
    return Experiments(config, "presets")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_published_settings(found, name):
    width, lr, dropout, nimg, parameters = PRESETS[name]
    spec = found.training(name, 0)
    network, optimiser = spec.network, spec.optimiser
    assert (network.kind, network.model_channels, network.channel_mult, network.num_blocks,
            network.attn_resolutions, network.channels_per_head, network.dropout, network.conditional) == (
        "mp_unet", width, (1, 2, 3, 4), 3, (16, 8), 64, dropout, name != "xs-unconditional")
    assert (optimiser.lr, optimiser.nimg, optimiser.batch, optimiser.ramp_nimg, optimiser.decay,
            optimiser.decay_nimg, optimiser.algorithm, optimiser.betas, optimiser.eps, optimiser.weight_decay,
            optimiser.clip, optimiser.ema_stds) == (
        lr, nimg, 2048, 10_000_000, "inverse_sqrt", 70_000 * 2048, "adam", (0.9, 0.99), 1e-8, 0.0,
        float("inf"), (0.05, 0.10))
    assert (spec.noise.P_mean, spec.noise.P_std, spec.sigma_data) == (-0.4, 1.0, 0.5)
    assert spec.augment.transforms == ()
    assert spec.loss.uncertainty and spec.snapshots == tuple(range(128 * MI, nimg + 1, 128 * MI))
    sampler = found.sampling(name).sampler
    assert (sampler.num_steps, sampler.sigma_min, sampler.sigma_max, sampler.rho, sampler.S_churn) == (
        32, 0.002, 80.0, 7.0, 0.0)
    assert found.sampling(name).num_samples == 50_000
    with torch.device("meta"):
        built = build_network(network, 64, 4, 1000, False, None)
    assert sum(one.numel() for one in built.parameters()) + HEAD == parameters


def test_presets_are_of_the_latents_that_public_weights_are_of(found):
    for name in PRESETS:
        study = found.study(f"edm2-{name}")
        data, encoder = found.dataset(study.dataset), found.encoder(study.encoder)
        assert (data.source, data.resolution, data.num_images) == ("imagenet", 512, 1_281_167)
        assert encoder.latent(data.resolution) == (4, 64)
        assert (encoder.shift, encoder.scale) == ((5.81, 3.25, 0.12, -2.15), (4.17, 4.62, 3.71, 3.28))
        assert [found.metric(one) for one in study.detector] == [
            "fid", "fd-dinov2", "fid-imagenet-512-val", "fd-dinov2-val"]


def test_parameters_are_those_of_the_reference():
    path = REFERENCE / "latent/keys.json"
    if not path.exists():
        pytest.skip("no reference vectors here")
    public = json.loads(path.read_text())
    for name, (width, _, dropout, _, parameters) in PRESETS.items():
        told = public["img512-" + name.replace("unconditional", "uncond")]
        assert (told["model_channels"], told["dropout"], told["parameters"]) == (width, dropout, parameters)
