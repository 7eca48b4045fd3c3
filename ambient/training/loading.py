"""A trained denoiser from disk."""

from __future__ import annotations

from pathlib import Path

import torch

from ambient.diffusion.denoiser import Denoiser
from ambient.specs import TrainingSpec
from ambient.specs.strict import build
from ambient.storage.files import naming
from ambient.training.build import build_network
from ambient.training.weights import read_description, read_weights


def load_denoiser(path: Path, nimg: int | None, where: torch.device) -> tuple[Denoiser, dict]:
    """The denoiser of a snapshot (None: the last) and the description stored with it.

    Raises `ValueError` for a foreign file or a snapshot that is not in it.
    """
    about = read_description(path)
    with naming(path):
        spec = build(TrainingSpec, about["spec"], "the training's specification")
    nimg = spec.snapshots[-1] if nimg is None else nimg
    if nimg not in spec.snapshots:
        raise ValueError(f"{path}: has no snapshot at nimg {nimg}, its snapshots are {spec.snapshots}")
    with naming(path):
        network = build_network(spec.network, about["resolution"], about["channels"],
                                about["num_classes"], bool(spec.augment.transforms), torch.Generator())
        denoiser = Denoiser(network, spec.sigma_data)
        denoiser.load_state_dict(read_weights(path, f"{nimg}/"))
    return denoiser.to(where).eval(), about


def require_network(path: Path, about: dict, kind: str) -> None:
    """Raise `ValueError` where a denoiser's network is not of the kind whose code a job is recorded with."""
    found = build(TrainingSpec, about["spec"], str(path)).network.kind
    if found != kind:
        raise ValueError(f"{path}: its network is of kind {found}, the specification's network is {kind}")
