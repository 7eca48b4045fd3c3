"""A trained denoiser from disk."""

from __future__ import annotations

from pathlib import Path

import torch

from ambient.diffusion.denoiser import Denoiser
from ambient.diffusion.guidance import Guided, Untold
from ambient.specs import SamplingSpec, TrainingSpec
from ambient.specs.strict import build
from ambient.storage.files import naming
from ambient.training.build import build_denoiser
from ambient.training.weights import read_description, read_weights


def load_denoiser(path: Path, nimg: int | None, where: torch.device) -> tuple[Denoiser, dict]:
    """The denoiser of a snapshot (None: the last) and the description stored with it.

    Raises `ValueError` for a foreign file or a snapshot that is not in it.
    """
    about = read_description(path, "a denoiser")
    with naming(path):
        spec = build(TrainingSpec, about["spec"], "the training's specification")
    nimg = spec.snapshots[-1] if nimg is None else nimg
    if nimg not in spec.snapshots:
        raise ValueError(f"{path}: has no snapshot at nimg {nimg}, its snapshots are {spec.snapshots}")
    with naming(path):
        denoiser = build_denoiser(spec, about["resolution"], about["channels"], about["num_classes"],
                                  torch.Generator())
        denoiser.load_state_dict(read_weights(path, f"{nimg}/"))
    return denoiser.to(where).eval(), about


def require_network(path: Path, about: dict, kind: str) -> None:
    """Raise `ValueError` where a denoiser's network is not of the kind whose code a job is recorded with."""
    found = build(TrainingSpec, about["spec"], str(path)).network.kind
    if found != kind:
        raise ValueError(f"{path}: its network is of kind {found}, the specification's network is {kind}")


def require_width(path: Path, about: dict, std: float | None) -> None:
    """Raise `ValueError` where a denoiser is no average of the width that is to be sampled (None: of any)."""
    widths = about["spec"]["optimiser"].get("ema_stds", [])[:1]
    if std is not None and widths != [std]:
        raise ValueError(f"{path}: its average has {f'the width {widths[0]}' if widths else 'no width'}, the "
                         f"specification's ema_std is {std}")


def untold(denoiser: Denoiser, spec: SamplingSpec) -> Denoiser | Guided:
    """A denoiser guided by itself, told the null caption; as it is where it is not to be guided."""
    if spec.guide is None:
        return denoiser
    return Guided(denoiser, Untold(denoiser, "text"), spec.guidance)


def load_sampled(path: Path, nimg: int | None, guide: Path | None, spec: SamplingSpec,
                 where: torch.device) -> tuple[Denoiser | Guided, dict]:
    """What samples are drawn from, with the description of its main denoiser: a snapshot, or one that `guide`
    guides.

    Raises `ValueError` where the two are of other images, or are not what the specification says.
    """
    denoiser, about = load_denoiser(path, nimg, where)
    if (guide is None) == spec.guided_by_another:
        raise ValueError(f"a guide is {'' if guide else 'not '}given, at guidance {spec.guidance:g}")
    if guide is None:
        return untold(denoiser, spec), about
    its = read_description(guide)
    require_network(guide, its, spec.guide.network)
    require_width(guide, its, spec.guide.ema_std)
    both = its["spec"]["network"]["conditional"] and about["spec"]["network"]["conditional"]
    for key in ("channels", "resolution", "encoded", *(["num_classes"] if both else [])):
        if its.get(key, False) != about.get(key, False):
            raise ValueError(f"{guide}: has {key} {its.get(key, False)}, the denoiser that it guides has "
                             f"{about.get(key, False)}")
    return Guided(denoiser, load_denoiser(guide, spec.guide.nimg, where)[0], spec.guidance), about
