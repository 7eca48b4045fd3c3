"""Vectors of the EDM2 reference: the networks in them as denoisers, and how results compare."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from ambient.diffusion.denoiser import Denoiser
from ambient.diffusion.networks.mp_unet import MPUNet

FOLDER = Path(os.environ.get("AMBIENT_REFERENCE", Path(__file__).parents[2] / "shared/reference"))
REFERENCE = FOLDER / "latent"
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason=f"no vectors at {REFERENCE}")


def vectors(name):
    """The tensors of a file and its metadata."""
    with safe_open(REFERENCE / f"{name}.safetensors", framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()


def ours(name):
    """What we call a tensor of the public checkpoints."""
    return name.replace("unet.", "model.", 1)


def of_reference(name, dtype, **options):
    """The denoiser of a file, with its log-variance head, in evaluation mode, and the file's tensors."""
    tensors, about = vectors(name)
    config = json.loads(about["config"])
    network = MPUNet(resolution=config.pop("img_resolution"), channels=config.pop("img_channels"),
                     generator=torch.Generator(), **{"dropout": 0.0} | config | options)
    denoiser = Denoiser(network, uncertainty=torch.Generator())
    denoiser.load_state_dict({ours(key.removeprefix("weights.")): tensor for key, tensor in tensors.items()
                              if key.startswith("weights.")})
    return denoiser.to(dtype).eval(), tensors


def agree(value, tensors, name, tolerance):
    """Raise where a value is farther from the reference's than a fraction of its largest magnitude."""
    expected = tensors[f"out64.{name}"]
    assert value.shape == expected.shape, name
    assert (value.double() - expected).abs().max() <= tolerance * expected.abs().max(), name
