"""Stage: draw samples from every snapshot of a diffusion model.

Sample k of sampling seed s has its own key: its latent (and churn noise, and class) do not depend on
the batch it is drawn in. Snapshots and methods with the same seeds start from the same latents.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ambient import randomness
from ambient.datasets import to_uint8
from ambient.denoiser import Denoiser, read_description
from ambient.files import read_arrays, write_arrays
from ambient.loading import load_denoiser
from ambient.progress import Progress
from ambient.runtime import State, autocast, device, identity
from ambient.sampler import heun
from ambient.spec import SamplingSpec

BATCH = {"cpu": 125, "cuda": 1000}  # samples drawn together: a matter of memory, not of results


class Draw:
    """Samples of one snapshot by index."""

    def __init__(self, denoiser: Denoiser, about: dict, spec: SamplingSpec,
                 where: torch.device) -> None:
        self.denoiser, self.spec, self.where = denoiser, spec, where
        self.shape = (about["channels"], about["resolution"], about["resolution"])
        conditional = about["spec"]["network"]["conditional"]
        self.classes = about["num_classes"] if conditional else 0

    def normal(self, stream: str, seed: int, ids: range) -> Tensor:
        draws = randomness.normal(stream, seed, ids, self.shape)
        return torch.from_numpy(draws).to(self.where, torch.float64)

    @torch.no_grad()
    def images(self, seed: int, ids: range) -> np.ndarray:
        """uint8 images (len(ids), C, H, W) of a sampling seed."""
        labels = None
        if self.classes:
            u = randomness.uniform("class", seed, ids)
            index = torch.from_numpy((u * self.classes).astype(np.int64))
            labels = torch.nn.functional.one_hot(index, self.classes).float().to(self.where)

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            with autocast(self.spec.precision, self.where):
                return self.denoiser(x, sigma, labels)

        samples = heun(denoise, self.normal("latent", seed, ids), self.spec.sampler,
                       lambda step: self.normal(f"churn-{step}", seed, ids))
        return to_uint8(samples.clamp(-1, 1).float().cpu().numpy())


def main(spec: SamplingSpec, record, *, denoiser: Path, state: Path, out: Path) -> None:
    """`out` gets one array a snapshot, named by its nimg: (seeds, num_samples, C, H, W) uint8."""
    where = device()
    keep = State(state, identity("ambient.sample", spec, denoiser))
    snapshots = read_description(denoiser)["spec"]["snapshots"]
    total = len(snapshots) * len(spec.seeds) * spec.num_samples
    progress, done, arrays = Progress("sample", total), 0, {}
    for nimg in snapshots:
        network, about = load_denoiser(denoiser, nimg, where)
        draw, shards = Draw(network, about, spec, where), []
        for seed in spec.seeds:
            shard = keep.folder / f"{nimg}-{seed}.safetensors"
            if not shard.exists():
                parts = []
                for first in range(0, spec.num_samples, BATCH[where.type]):
                    ids = range(first, min(first + BATCH[where.type], spec.num_samples))
                    parts.append(draw.images(seed, ids))
                    progress.update(done + ids.stop)
                write_arrays(shard, {"images": np.concatenate(parts)})
            done += spec.num_samples
            shards.append(read_arrays(shard)["images"])
        arrays[str(nimg)] = np.stack(shards)
    write_arrays(out, arrays)
    record.facts |= {"samples": total, "nfe": 2 * spec.sampler.num_steps - 1}
    keep.remove()


if __name__ == "__main__":
    from ambient import stage

    stage.run(main, SamplingSpec, inputs=("denoiser",), outputs=("out",), options=("state",))
