"""Ambient Diffusion Omni: training good models with bad data.

`import ambient` loads nothing heavy: each name below is fetched when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ambient.api import Trained, Trajectories, annotate, load_denoiser, sample, trajectories
    from ambient.data.annotations import Annotations
    from ambient.data.captions import clean_caption
    from ambient.diffusion.denoiser import Denoiser
    from ambient.diffusion.eligible import Admission, EligibleSampler
    from ambient.diffusion.networks.unet import UNet
    from ambient.diffusion.noise import lognormal
    from ambient.diffusion.objective import ambient_loss, edm_loss
    from ambient.diffusion.sampler import heun
    from ambient.evaluation.geneval import Detection, geneval_faults, geneval_prompt, geneval_score
    from ambient.evaluation.vendi import vendi
    from ambient.training.dit_weights import load_microdit
    from ambient.training.edm_weights import load_edm

__all__ = ["Admission", "Annotations", "Denoiser", "Detection", "EligibleSampler", "Trained", "Trajectories",
           "UNet", "ambient_loss", "annotate", "clean_caption", "edm_loss", "geneval_faults",
           "geneval_prompt", "geneval_score", "heun", "load_denoiser", "load_edm", "load_microdit",
           "lognormal", "sample", "trajectories", "vendi"]
_MODULES = {
    "api": ("Trained", "Trajectories", "annotate", "load_denoiser", "sample", "trajectories"),
    "data.annotations": ("Annotations",),
    "data.captions": ("clean_caption",),
    "diffusion.denoiser": ("Denoiser",),
    "diffusion.eligible": ("Admission", "EligibleSampler"),
    "diffusion.networks.unet": ("UNet",),
    "diffusion.noise": ("lognormal",),
    "diffusion.objective": ("ambient_loss", "edm_loss"),
    "diffusion.sampler": ("heun",),
    "evaluation.geneval": ("Detection", "geneval_faults", "geneval_prompt", "geneval_score"),
    "evaluation.vendi": ("vendi",),
    "training.dit_weights": ("load_microdit",),
    "training.edm_weights": ("load_edm",)}


def __getattr__(name: str) -> Any:
    """Fetch a public name. Raises `AttributeError` for any other."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"ambient.{module}"), name)
    raise AttributeError(f"module 'ambient' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    """The public names, for completion and help."""
    return sorted(__all__)
