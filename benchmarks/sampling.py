"""The Heun sampler: ours against a plain loop in float32 and under torch's autocast, on the same latents."""

from __future__ import annotations

from dataclasses import replace

import torch

from ambient.diffusion import randomness
from ambient.diffusion.denoiser import Denoiser
from ambient.diffusion.noise import karras_schedule
from ambient.settings import Experiments
from ambient.stages.sample import Draw, batch_of
from ambient.training.build import build_network
from ambient.training.hardware import autocast, compile_for, device
from benchmarks import convolutions
from benchmarks.timing import Pair, paired, profiled, shares
from benchmarks.training import as_written


def plain_heun(denoiser: Denoiser, latents: torch.Tensor, spec, precision: str) -> torch.Tensor:
    """Algorithm 1 of Karras et al. 2022 as it stands, gradients not kept."""
    sigmas = karras_schedule(spec.num_steps, spec.sigma_min, spec.sigma_max, spec.rho).to(latents)
    x = latents * sigmas[0]
    with torch.no_grad(), autocast(precision, x.device):
        for sigma, following in zip(sigmas[:-1], sigmas[1:], strict=True):
            level = sigma.expand(len(x))
            d = (x - denoiser(x, level)) / sigma
            ahead = x + (following - sigma) * d
            if following > 0:
                d = (d + (ahead - denoiser(ahead, following.expand(len(x)))) / following) / 2
                ahead = x + (following - sigma) * d
            x = ahead
    return x.clamp(-1, 1)


def samples(scale: str, run: str, count: int, repeats: int) -> Pair:
    """`count` samples of an untrained network of a run: the time does not depend on its weights."""
    found = Experiments("config", scale)
    dataset = found.dataset(found.study(found.run(run).study).dataset)
    training, spec = found.training(run, 0), found.sampling(run)
    size = min(batch_of(device().type, dataset.resolution), count)

    def denoiser() -> Denoiser:
        network = build_network(training.network, dataset.resolution, dataset.channels, 10, False,
                             randomness.torch_generator("cpu", "init", 0)).eval()
        return Denoiser(network, training.sigma_data).to(device())

    shape = (dataset.channels, dataset.resolution, dataset.resolution)
    draw = Draw(denoiser(), {"channels": shape[0], "resolution": shape[1], "num_classes": 10,
                           "spec": {"network": {"conditional": False}}},
                spec.sampler, spec.precision, device())
    drawn = randomness.normal("latent", 0, range(count), shape)
    latents = torch.from_numpy(drawn).to(device(), torch.float32)

    compile_for(draw.denoiser.model, 10**9)  # as for a long job

    def ours() -> None:
        for first in range(0, count, size):
            draw.images(0, range(first, min(first + size, count)))

    plain, nfe = as_written(denoiser()), 2 * spec.sampler.num_steps - 1
    pair = paired(f"sampling, {scale}, {nfe} evaluations", "images", count,
                  lambda: plain_heun(plain, latents, spec.sampler, "float32"), ours, repeats,
                  autocast=lambda: plain_heun(plain, latents, spec.sampler, "bfloat16"))
    floor = nfe * count / size * convolutions.alone(denoiser().model, shape, size, backward=False)
    return replace(pair, shares=shares(profiled(ours)), floor=floor)
