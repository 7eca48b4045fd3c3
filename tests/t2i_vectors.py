"""Vectors of the MicroDiffusion reference: the networks in them, and how results compare."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from ambient.diffusion.networks.dit import MicroDiT
from ambient.diffusion.networks.widths import block_widths, dense_width

REFERENCE = Path(os.environ.get("AMBIENT_REFERENCE", Path(__file__).parents[2] / "shared/reference")) / "t2i"
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason=f"no vectors at {REFERENCE}")


def vectors(name):
    """The tensors of a file and its metadata, of which `config` is read."""
    with safe_open(REFERENCE / f"{name}.safetensors", framework="pt") as file:
        about = dict(file.metadata())
        return {key: file.get_tensor(key) for key in file.keys()}, about | {
            "config": json.loads(about.get("config", "{}"))}


def read(name):
    """What is in a JSON file."""
    return json.loads((REFERENCE / f"{name}.json").read_text())


def arguments(config):
    """The arguments of `MicroDiT` for the constructor values of the public class."""
    head, multiple, every = config["head_dim"], config["multiple_of"], config["experts_every_n"]
    common = {"head": head, "multiple": multiple, "every": every}
    deep = config["patch_mixer_depth"]
    return {"side": config["input_size"], "channels": config["in_channels"], "patch": config["patch_size"],
            "width": config["dim"], "head": head, "scale": config["pos_interp_scale"],
            "blocks": block_widths(config["dim"], config["qkv_multipliers"], config["ffn_multipliers"],
                                   last_is_dense=True, **common),
            "mixer_width": config["patch_mixer_dim"],
            "mixer": block_widths(config["patch_mixer_dim"], [config["patch_mixer_qkv_ratio"]] * deep,
                                  [config["patch_mixer_mlp_ratio"]] * deep, last_is_dense=False, **common),
            "caption_channels": config["caption_channels"],
            "caption_mlp": dense_width(4 * config["dim"], multiple),
            "num_experts": config["num_experts"], "capacity": config["expert_capacity"]}


def of_reference(name, dtype=torch.float32):
    """The network of a weights file, in evaluation mode; all of its names must be ours."""
    tensors, about = vectors(f"{name}.weights")
    network = MicroDiT(**arguments(about["config"]), generator=torch.Generator())
    network.load_state_dict(tensors, strict=True)
    return network.to(dtype).eval()


def agree(value, expected, tolerance, name=""):
    """Raise where a value is farther from the reference's than a fraction of its largest magnitude."""
    assert value.shape == expected.shape, (name, value.shape, expected.shape)
    assert (value.double() - expected).abs().max() <= tolerance * expected.abs().max(), name
