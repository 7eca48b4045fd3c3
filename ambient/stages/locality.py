r"""Stage: crop(sigma), the context that a trained denoiser needs, measured (Figures 16 to 19).

For each level and context size k the denoiser gets the centred k x k crop of x_sigma as an image of its
own, and its squared error is measured on the centre patch. crop(sigma) is the least k from which on it
is within `tolerance` of the error with the whole image, and within `relative_tolerance` of it as a fraction
where one is given: at low noise the whole error is below any useful absolute tolerance.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ambient.data.datasets import read
from ambient.diffusion import randomness
from ambient.diffusion.denoiser import Denoiser
from ambient.jobs.shards import collect
from ambient.jobs.state import State
from ambient.jobs.stopping import patiently
from ambient.specs import LocalitySpec, NetworkSpec
from ambient.specs.strict import build
from ambient.storage.files import write_json, write_text
from ambient.training.hardware import device
from ambient.training.loading import load_denoiser, require_network
from ambient.training.points import Points

BATCH = 250


def centred(x: torch.Tensor, side: int) -> torch.Tensor:
    """The central square of `side` pixels of images (B, C, H, H)."""
    first = (x.shape[-1] - side) // 2
    return x[..., first:first + side, first:first + side]


def check(contexts: list[int], side: int, patch: int, step: int) -> None:
    """Refuse sizes that the network can't take. Raises `ValueError`."""
    for size in contexts:
        if size > side or size % step or (side - size) % 2 or (size - patch) % 2:
            raise ValueError(f"contexts: got {size} pixels, allowed: multiples of {step}, which the network "
                             f"needs, up to the image's {side}, of the patch's parity")


@torch.no_grad()
def errors(denoiser: Denoiser, x: torch.Tensor, x0: torch.Tensor, sigma: float, context: int,
           patch: int) -> np.ndarray:
    """Mean squared error (B,) on the centre patch, given the central `context` pixels of `x`.

    Raises `FloatingPointError` where one is not finite: it would count as no error at all.
    """
    level = torch.full((len(x),), sigma, device=x.device)
    found = denoiser(centred(x, context), level)
    squared = ((centred(found, patch) - centred(x0, patch)) ** 2).mean(dim=(1, 2, 3)).cpu().numpy()
    if not np.isfinite(squared).all():
        raise FloatingPointError(f"the denoiser's error at sigma {sigma:.4g} is not finite: its weights are "
                                 "too large; train it again with a lower lr")
    return squared


def needed(losses: np.ndarray, contexts: list[int], tolerance: float,
           relative: float | None = None) -> int:
    """The least context from which on the loss stays within the tolerances of the last one's, L.

    The excess allowed is `tolerance`, or the smaller of that and `relative` L.
    """
    allowed = tolerance if relative is None else min(tolerance, relative * losses[-1])
    apart = np.flatnonzero(losses > losses[-1] + allowed)
    return contexts[int(apart[-1]) + 1 if len(apart) else 0]


def main(spec: LocalitySpec, record, *, data: Path, denoiser: Path, state: State, out: Path, map_out: Path,
         latents: Sequence[Path] = ()) -> None:
    """`out` gets the loss of each level and context (CSV), `map_out` crop(sigma) (JSON)."""
    where, dataset = device(), read(data)
    network, about = load_denoiser(denoiser, spec.nimg, where)
    require_network(denoiser, about, spec.network)
    if about["spec"]["network"]["conditional"]:
        raise ValueError(f"{denoiser}: is class-conditional; locality is measured on unconditional models")
    every = np.arange(len(dataset.ids))
    clean = every if dataset.corrupted is None else every[dataset.corrupted == 0]
    order = np.argsort(randomness.uniform("locality", spec.seed, dataset.ids[clean]), kind="stable")
    rows = clean[order[:spec.num_images]]
    shown = np.sort(rows)
    points = Points(dataset.taken(shown), latents)
    side = points.shape[-1]
    contexts = [*(size for size in spec.contexts if size < side), side]
    check(contexts, side, spec.patch, build(NetworkSpec, about["spec"]["network"], str(denoiser)).step)
    sigmas = np.geomspace(spec.sigma_low, spec.sigma_high, spec.num_sigmas)
    x0 = points.fixed(np.searchsorted(shown, rows), spec.seed).to(where)

    def make(k: int) -> dict[str, np.ndarray]:
        z = randomness.normal(f"locality-{k}", spec.seed, dataset.ids[rows], x0.shape[1:])
        x, sigma = x0 + float(sigmas[k]) * torch.from_numpy(z).to(where), float(sigmas[k])
        each = [np.concatenate([errors(network, a, b, sigma, size, spec.patch)
                                for a, b in zip(x.split(BATCH), x0.split(BATCH), strict=True)])
                for size in contexts]
        return {"loss": np.array([one.mean() for one in each]),
                "stderr": np.array([one.std(ddof=1) / np.sqrt(len(one)) for one in each])}

    levels = collect("locality", state, [(f"level-{k}", len(rows)) for k in range(len(sigmas))], make)
    if levels is None:
        return
    losses, stderrs = (np.array(both) for both in zip(*((one["loss"], one["stderr"]) for one in levels),
                                                      strict=True))
    crop = [needed(one, contexts, spec.tolerance, spec.relative_tolerance) for one in losses]
    table = pd.DataFrame({"sigma": np.repeat(sigmas, len(contexts)),
                          "context_px": np.tile(contexts, len(sigmas)), "loss": losses.ravel(),
                          "loss_stderr": stderrs.ravel()})
    table["crop_px"] = np.repeat(crop, len(contexts))
    tolerances = {"tolerance": spec.tolerance, "relative_tolerance": spec.relative_tolerance}
    table = table.assign(**tolerances)
    patiently(write_text, out, table.to_csv(index=False, lineterminator="\n", float_format="%.6g"))
    patiently(write_json, map_out, {"sigmas": sigmas.tolist(), "crop_px": crop} | tolerances)
    record.facts |= {"images": len(rows)}
