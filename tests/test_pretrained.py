"""The autoencoder of Stable Diffusion: diffusers' own numbers, EDM2's ranges, local weights alone.

And a scale of it: ImageNet's files in its latents, scored by DINOv2, from the tar to the audit.
"""

import dataclasses
import io
import os
import pickle
import shutil
import tarfile
from collections import Counter
from pathlib import Path

import finished
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from tiny import kept

from ambient import specs
from ambient.audit.cli import main as audit
from ambient.data.datasets import Dataset, to_uint8, write
from ambient.data.latents import read as read_latents
from ambient.evaluation.frechet import Moments, frechet_distance, stored
from ambient.jobs.stage import Record
from ambient.provenance import manifest
from ambient.specs.strict import SpecError
from ambient.stages import encode, encoder
from ambient.storage.files import read_arrays, read_json, sha256_of_raw
from ambient.training.encoding import Decoder
from ambient.training.points import normalised
from tests.test_dinov2 import public_weights

REFERENCE = Path(os.environ.get("AMBIENT_REFERENCE", Path(__file__).parents[2] / "shared/reference"))
SHIFT, SCALE = (5.81, 3.25, 0.12, -2.15), (4.17, 4.62, 3.71, 3.28)
SPEC = specs.EncoderSpec("sd_vae", SHIFT, SCALE, widths=(32, 64), layers=1)
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 3, 16, 16), np.uint8)


def test_the_published_autoencoder_is_meant_where_nothing_is_said():
    usual = specs.EncoderSpec("sd_vae")
    assert usual.latent(512) == (4, 64) and not usual.LEARNS
    # Measured with torch's counter: decoding an image of 512 pixels takes 1.255e12 multiply-adds.
    assert usual.multiply_adds(512, 3) == pytest.approx(1.255e12, rel=0.02)
    for key, value in (("widths", (100,)), ("layers", 0), ("precision", "float16"), ("shift", (1.0,))):
        with pytest.raises(SpecError, match=f"a.{key}: got"):
            specs.strict.build(specs.EncoderSpec, {"kind": "sd_vae", key: value}, "a")


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    """A tiny autoencoder as diffusers saves one, and its folder."""
    diffusers = pytest.importorskip("diffusers", reason="needs the extra `pretrained`")
    torch.manual_seed(0)
    made = diffusers.AutoencoderKL(block_out_channels=(32, 64), layers_per_block=1, latent_channels=4,
                                   down_block_types=("DownEncoderBlock2D",) * 2,
                                   up_block_types=("UpDecoderBlock2D",) * 2).eval()
    folder = tmp_path_factory.mktemp("vae") / "sd-vae"
    made.save_pretrained(folder)
    return made, folder


@pytest.fixture
def data(tmp_path):
    write(tmp_path / "d.safetensors", Dataset(IMAGES, np.zeros(5, int), np.arange(5), np.zeros(5, np.uint8)))
    return tmp_path / "d.safetensors"


def made(tmp_path, data, folder, spec=SPEC):
    """The stage's encoder, whose state is a new one in each call."""
    state = kept(tmp_path / f"state-{len(list(tmp_path.glob('state-*')))}")
    encoder.main(spec, Record(), data=data, weights=folder, state=state, out=tmp_path / "e.safetensors")
    return Decoder(tmp_path / "e.safetensors", torch.device("cpu"))


@torch.no_grad()
def test_latents_and_images_are_diffusers_own_in_edm2s_ranges(tmp_path, data, vae):
    network, folder = vae
    decoder = made(tmp_path, data, folder)
    latent = network.encode(torch.from_numpy(IMAGES).float() / 255).latent_dist
    mean, std = decoder.encode(IMAGES)
    np.testing.assert_allclose(mean, latent.mean, atol=1e-6)
    np.testing.assert_allclose(std, latent.std, rtol=1e-5)
    z = 3 * torch.randn(5, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    gain = 0.5 / torch.tensor(SCALE).reshape(4, 1, 1)
    x = (z - torch.tensor(SHIFT).reshape(4, 1, 1)) * gain
    decoded = (network.decode(z).sample.clamp(0, 1) * 255)
    away = (decoded - decoded.round()).abs() > 1e-3  # from a step of the cut, which rounding could miss
    made_images = decoder.images(x)
    assert away.float().mean() > 0.5
    np.testing.assert_array_equal(made_images[away.numpy()], decoded.to(torch.uint8).numpy()[away.numpy()])


@torch.no_grad()
def test_signed_images_are_those_that_the_autoencoder_was_trained_on(tmp_path, data, vae):
    network, folder = vae
    decoder = made(tmp_path, data, folder, dataclasses.replace(SPEC, signed=True))
    latent = network.encode(torch.from_numpy(IMAGES).float() / 127.5 - 1).latent_dist
    np.testing.assert_allclose(decoder.encode(IMAGES)[0], latent.mean, atol=1e-6)
    z = torch.randn(5, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    x = (z - torch.tensor(SHIFT).reshape(4, 1, 1)) * 0.5 / torch.tensor(SCALE).reshape(4, 1, 1)
    grey = (network.decode(z).sample / 2 + 0.5).clamp(0, 1) * 255
    assert np.abs(decoder.images(x) - grey.numpy()).max() <= 0.5 + 1e-3


def test_it_is_a_stage_like_any_other_encoder(tmp_path, data, vae, monkeypatch):
    """Images are seen a few at a time; in bfloat16 latents differ by its rounding."""
    from ambient.training import pretrained_vae

    latents = {}
    for precision, few in (("float32", False), ("float32", True), ("bfloat16", False)):
        if few:
            monkeypatch.setattr(pretrained_vae, "TOGETHER", 2 * 16**2)
        spec = specs.EncoderSpec("sd_vae", SHIFT, SCALE, widths=(32, 64), layers=1, precision=precision)
        made(tmp_path, data, vae[1], spec)
        encode.main(specs.EncodingSpec("sd_vae"), Record(), data=data, encoder=tmp_path / "e.safetensors",
                    state=kept(tmp_path / f"s-{precision}-{few}"), out=tmp_path / "l.safetensors")
        latents[precision, few] = read_latents(tmp_path / "l.safetensors")
    whole = latents["float32", False]
    assert whole.mean.shape == (5, 4, 8, 8) and whole.shift.tolist() == np.float32(SHIFT).tolist()
    np.testing.assert_allclose(latents["float32", True].mean, whole.mean, atol=1e-5)
    rounded = np.abs(latents["bfloat16", False].mean - whole.mean).max()
    assert 0 < rounded < 0.1 * np.abs(whole.mean).max()


def test_the_scale_of_other_latents_is_measured(tmp_path, data, vae):
    decoder = made(tmp_path, data, vae[1], specs.EncoderSpec("sd_vae", widths=(32, 64), layers=1))
    mean, std = decoder.encode(IMAGES)
    x, _ = normalised(torch.from_numpy(mean), torch.from_numpy(std), decoder.shift, decoder.scale)
    np.testing.assert_allclose(x.mean((0, 2, 3)), 0, atol=1e-4)


def test_other_networks_pickles_and_grey_images_are_refused(tmp_path, data, vae):
    network, folder = vae
    with pytest.raises(ValueError, match="weights: got None, allowed: a folder with .*; give the local"):
        made(tmp_path, data, None)
    with pytest.raises(ValueError, match="sha256 is .*, the configuration's sha256 is 0000"):
        made(tmp_path, data, folder, specs.EncoderSpec("sd_vae", widths=(32, 64), layers=1, sha256="0" * 64))
    made(tmp_path, data, folder, specs.EncoderSpec("sd_vae", widths=(32, 64), layers=1,
                                                   sha256=sha256_of_raw(folder)[0]))
    with pytest.raises(ValueError, match=r"has the shape .*, the specification's network"):
        made(tmp_path, data, folder, specs.EncoderSpec("sd_vae", widths=(32, 64), layers=2))
    other = tmp_path / "pickled"
    network.save_pretrained(other, safe_serialization=False)
    with pytest.raises(ValueError, match=f"weights: got {other}, allowed: a folder with .*.safetensors"):
        made(tmp_path, data, other)
    write(data, Dataset(IMAGES[:, :1], np.zeros(5, int), np.arange(5)))
    with pytest.raises(ValueError, match=r"images have 1 channels, sd_vae takes 3 \(RGB\)"):
        made(tmp_path, data, folder)


def test_ranges_are_edm2s(vae):
    """Final latents, what the decoder gets, and grey levels, against the reference vectors."""
    from ambient.training.points import affine
    from ambient.training.pretrained_vae import whole_levels

    path = REFERENCE / "latent/vae_latents.safetensors"
    if not path.exists():
        pytest.skip("no reference vectors here")
    with safe_open(path, "pt") as file:
        vectors = {name: file.get_tensor(name) for name in file.keys()}
    shift, scale = torch.tensor(SHIFT), torch.tensor(SCALE)
    mean, std = normalised(vectors["posterior_mean"], vectors["posterior_std"], shift, scale)
    for prefix, precision in (("out", 1e-6), ("out64", 1e-6)):
        expected = vectors[f"{prefix}.latents"]
        assert (mean + std * vectors["noise"] - expected).abs().max() <= precision * expected.abs().max()
    gain, bias = affine(shift, scale)
    expected = vectors["out64.decoder_input"]
    found = (vectors["out.latents"] - bias) / gain
    assert (found - expected).abs().max() <= 1e-6 * expected.abs().max()
    cut = to_uint8(whole_levels(vectors["decoder_output"]).numpy())
    np.testing.assert_array_equal(cut, vectors["out.pixels_uint8"].numpy())


# --- a whole scale ------------------------------------------------------------------------------------

WIDTH, COUNT, SAMPLES = 64, 40, 66  # a distance takes more samples than there are features
OVERLAY = """extends: tiny
datasets:
  pictures:
    {{source: imagenet, path: {folder}/train.tar, resolution: 16, channels: 3, num_images: {images},
     sha256: {train}}}
encoders:
  vae:
    {{kind: sd_vae, weights: {folder}/sd-vae, sha256: {vae}, widths: [32, 64], layers: 1,
     shift: [0.1, 0.2, 0.3, 0.4], scale: [1.0, 2.0, 3.0, 4.0]}}
detectors:
  dino: {{kind: dinov2, features: {width}, weights: {folder}/model.safetensors, sha256: {model}}}
  dino-published:
    {{kind: dinov2, features: {width}, weights_of: dino,
     published: {{dataset: pictures, entry: fd_dinov2, path: {folder}/img512.pkl, sha256: {moments}}}}}
studies:
  controlled:
    dataset: pictures
    encoder: vae
    detector: [dino, dino-published]
    classifier: {{augment: {{transforms: []}}}}
    training:
      network: {{kind: mp_unet, model_channels: 8, channel_mult: [1, 2], num_blocks: 1, attn_resolutions: [],
                channels_per_head: 8, dropout: 0.0, conditional: true}}
      augment: {{transforms: []}}
      snapshots: [256]
    sampling: {{num_samples: {samples}, seeds: [0]}}
tables: {{table2a: {{title: Pictures, rows: [only-clean]}}}}
"""


def tar(path):
    """The official form: a tar of each class."""
    random = np.random.default_rng(0)
    with tarfile.open(path, "w") as outer:
        for wnid in ("n01440764", "n01443537"):
            inside = io.BytesIO()
            with tarfile.open(fileobj=inside, mode="w") as inner:
                for number in range(COUNT // 2):
                    file = io.BytesIO()
                    Image.fromarray(random.integers(0, 256, (20, 24, 3), np.uint8)).save(file, "JPEG")
                    add(inner, f"{wnid}_{number}.JPEG", file.getvalue())
            add(outer, f"{wnid}.tar", inside.getvalue())


def pins(folder):
    """The digests of all that comes from outside."""
    names = {"train": "train.tar", "vae": "sd-vae", "model": "model.safetensors", "moments": "img512.pkl"}
    return {key: sha256_of_raw(folder / name)[0] for key, name in names.items()}


def add(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


@pytest.fixture(scope="module")
def tree(tmp_path_factory, vae):
    """Its table, made once."""
    pytest.importorskip("transformers", reason="needs the extra `pretrained`")
    folder, patch = tmp_path_factory.mktemp("pretrained"), pytest.MonkeyPatch()
    tar(folder / "train.tar")
    save_file(public_weights(WIDTH), folder / "model.safetensors")
    shutil.copytree(vae[1], folder / "sd-vae")
    moments = {"mu": np.zeros(WIDTH), "sigma": np.eye(WIDTH)}
    (folder / "img512.pkl").write_bytes(pickle.dumps({"fd_dinov2": moments, "num_images": COUNT}))
    numbers = {"images": COUNT, "width": WIDTH, "samples": SAMPLES}
    finished.configure(folder, OVERLAY.format(folder=folder, **numbers, **pins(folder)))
    patch.chdir(folder)
    finished.make(folder, "results/away/table2a.csv")
    patch.undo()
    return folder


def test_a_table_has_the_distances_to_measured_and_to_published_moments(tree):
    row, = pd.read_csv(tree / "results/away/table2a.csv").to_dict("records")
    assert (row["metric"], row["num_samples"], row["reference_images"], row["resize"]) == (
        "fd-dino", SAMPLES, COUNT, "torch")
    run = tree / "results/away/runs/only-clean/seed-0"
    of_samples = stored(read_arrays(run / "moments-dino-published.safetensors"), "moments", "256/0/", SAMPLES)
    published = Moments(np.zeros(WIDTH), np.eye(WIDTH), COUNT)
    assert row["fd-dino-published"] == pytest.approx(frechet_distance(of_samples, published), rel=1e-5)
    measured = stored(read_arrays(tree / "results/away/detectors/pictures/dino-reference.safetensors"), "r")
    assert row["value"] == pytest.approx(frechet_distance(of_samples, measured), rel=1e-5)


def test_what_came_from_outside_is_recorded_without_its_place(tree):
    outside = Counter()
    for path in (tree / "results").rglob("*.manifest.json"):
        assert str(tree) not in path.read_text(), path
        outside.update(one["file"] for one in read_json(path)["external"])
    assert outside.keys() == {"train.tar", "sd-vae", "model.safetensors", "img512.pkl"}
    facts = manifest.read(manifest.path_for(tree / "results/away/data/pictures.safetensors"))["facts"]
    assert facts["class_names"] == {"0": "n01440764", "1": "n01443537"}
    samples = read_arrays(next((tree / "results").rglob("samples.safetensors")))
    assert samples["256"].shape == (1, SAMPLES, 3, 16, 16)


def test_the_audit_closes_every_artefact_over_the_pinned_files(tree, monkeypatch, capsys):
    monkeypatch.chdir(tree)
    assert audit(["results/away"]) == 0
    assert "17 artefacts, level 3: 4, level 2: 13; 0 problems" in capsys.readouterr().out
