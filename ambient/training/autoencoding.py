"""The training of a small autoencoder on the images of a dataset."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from ambient.data.datasets import Dataset, to_float, to_uint8
from ambient.data.measures import measure
from ambient.diffusion.blocks import Blocks
from ambient.diffusion.networks.autoencoder import Autoencoder, kl_divergence
from ambient.jobs import ranks
from ambient.jobs.state import State
from ambient.jobs.stopping import say
from ambient.storage.arrays import Array, selected, some
from ambient.training import shares
from ambient.training.hardware import autocast, device, sent
from ambient.training.loop import fit

if TYPE_CHECKING:
    from ambient.training.encoders.autoencoder import Spec

COMPARED = 1000  # images whose quality is compared before and after decoding, at the most
CHECKED = 10  # one image in so many is kept out of training, to report the error


class ImageAutoencoder(Autoencoder):
    """The network as an `ambient.training.encoding.Coder`."""

    def encode(self, images: np.ndarray) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latents of uint8 images (N, C, H, H)."""
        where = next(self.parameters()).device
        mean, log_variance = self.posterior(torch.from_numpy(to_float(images)).to(where))
        return mean, (log_variance / 2).exp()

    def decode(self, z: Tensor) -> Tensor:
        """Images, about in [-1, 1], of latents."""
        return self.decoded(z)


class Batches:
    """The loss of each step, a function of the images seen."""

    def __init__(self, spec: Spec, network: Autoencoder, images: Array) -> None:
        self.spec, self.network, self.where, self.images = spec, network, device(), images

    def loss(self, nimg: int, share: shares.Share = shares.WHOLE) -> Tensor:
        """The mean over images of |x - decoded(z)| + kl KL, both per pixel, with z = mean + std n."""
        spec = self.spec
        drawn = Blocks(share.rows(spec.batch), "cpu", "autoencoder", spec.seed, nimg)
        rows = drawn.integers(len(self.images)).numpy()
        x = sent(torch.from_numpy(to_float(self.images[rows])), self.where)
        with autocast(spec.precision, self.where):
            mean, log_variance = self.network.posterior(x)
            noise = sent(drawn.normal(*mean.shape[1:]), self.where).to(mean)
            decoded = self.network.decoded(mean + (log_variance / 2).exp() * noise)
        divergence = kl_divergence(mean, log_variance).sum() / x.numel()
        return (decoded - x).abs().mean() + spec.kl * divergence


def trained(spec: Spec, record, network: ImageAutoencoder, data: Dataset, state: State) -> ImageAutoencoder:
    """The network with the averaged weights of its training; the manifest gets its error on held-out ones."""
    every = np.arange(len(data.images))
    images, held_out = (selected(data.images, (every % CHECKED == 0) == kept) for kept in (False, True))
    network.to(device())
    fit("encoder", network, spec.optimiser(), Batches(spec, network, images).loss, state, (spec.nimg,),
        lambda nimg, averages: state.put(f"snapshot-{nimg}", averages[0]))
    ranks.barrier()  # the first one writes the snapshot
    network.load_state_dict(state.get(f"snapshot-{spec.nimg}")[0])
    network.eval()
    record.facts |= {"images_seen": spec.nimg, "held_out_images": len(held_out),
                     "held_out_rms": rms(network, held_out)}
    if spec.keeps is not None:
        record.facts |= {"rank_correlation": kept(spec, network, held_out)}
    return network


@torch.no_grad()
def kept(spec: Spec, network: ImageAutoencoder, images: Array) -> float:
    """Spearman's rank correlation of a measure of quality before and after images are encoded and decoded.

    Raises `ValueError` where it is less than is asked for: latents that have lost the quality by which images
    are ranked can't show what the ranking is good for.
    """
    score, before, after = measure(spec.keeps), [], []
    compared = some(images, COMPARED)
    for first in range(0, len(compared), 64):
        shown = compared[first:first + 64]
        decoded = to_uint8(network.decode(network.encode(shown)[0]).cpu().numpy())
        for scores, part in ((before, shown), (after, decoded)):
            scores += [score(image) for image in part]
    found = float(spearmanr(before, after).statistic)
    if not found >= spec.keeps_at_least:  # nor NaN, where all images score the same
        raise ValueError(f"keeps: the {spec.keeps} of {len(before)} held-out images before and after being "
                         f"decoded has a rank correlation of {found:.3f}, allowed: at least "
                         f"{spec.keeps_at_least:g} (keeps_at_least); raise nimg, widths or latent_channels")
    say(f"encoder: {spec.keeps} survives decoding, rank correlation {found:.3f} on {len(before)} images")
    return found


@torch.no_grad()
def rms(network: ImageAutoencoder, images: Array) -> float:
    """The root mean square error of images encoded to their means and decoded, on [-1, 1]."""
    total = 0.0
    for first in range(0, len(images), 64):
        shown = images[first:first + 64]
        decoded = network.decode(network.encode(shown)[0]).cpu()
        total += ((decoded - torch.from_numpy(to_float(shown))) ** 2).sum(dtype=torch.float64).item()
    return (total / math.prod(images.shape)) ** 0.5
