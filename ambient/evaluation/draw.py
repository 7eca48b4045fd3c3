"""Samples of a trained denoiser, each a function of (seed, index) alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ambient.data.datasets import to_uint8
from ambient.data.text_states import Told
from ambient.diffusion import randomness
from ambient.diffusion.denoiser import Denoiser
from ambient.diffusion.guidance import Guided
from ambient.diffusion.sampler import heun
from ambient.specs import SamplerSpec
from ambient.training.encoding import Decoder
from ambient.training.hardware import autocast


class Draw:
    """Samples of one snapshot by index."""

    def __init__(self, denoiser: Denoiser | Guided, about: dict, sampler: SamplerSpec, precision: str,
                 where: torch.device, decoder: Decoder | None = None, told: Told | None = None,
                 each: int = 1) -> None:
        """`about` describes the denoiser, the main one where it is guided.

        `decoder`: of the encoder whose latents the denoiser works on; None: it works on pixels. `told`: the
        states of captions, for one that is told them, of each of which `each` samples are drawn.

        Raises `ValueError` where a denoiser of latents has none, or latents of another shape, and where one
        that is told captions has none, or some of another width.
        """
        self.decoder, self.told, self.each = decoder, told, each
        self.check(about)
        self.denoiser, self.sampler, self.precision, self.where = denoiser, sampler, precision, where
        self.shape = (about["channels"], about["resolution"], about["resolution"])
        self.image = decoder.image(about["resolution"]) if decoder else self.shape  # of what is drawn
        conditional = about["spec"]["network"]["conditional"]
        of_classes = conditional and "text" not in about
        self.classes = about["num_classes"] if of_classes else 0  # width of the one-hot labels
        # Those that the denoiser was trained on: labels may leave out some below the largest.
        self.trained = np.array(about.get("classes", range(self.classes)), np.int64)

    def check(self, about: dict) -> None:
        """Refuse samples that would be no images."""
        encoded = about.get("encoded", False)
        if encoded != (self.decoder is not None):
            raise ValueError("the denoiser works on "
                             + ("latents: samples need the encoder that made them" if encoded else
                                "pixels: its samples take no encoder"))
        if self.decoder is not None and self.decoder.spec.channels != about["channels"]:
            raise ValueError(f"{self.decoder.path}: has latents of {self.decoder.spec.channels} channels, "
                             f"the denoiser works on {about['channels']}")

        wide = about["text"][1] if "text" in about else None
        given = None if self.told is None else self.told.shape[1]
        if wide != given:
            raise ValueError(f"states of captions have {given or 'no'} channels, the denoiser is told "
                             f"{wide or 'none'}")

    def normal(self, stream: str, seed: int, ids: range) -> Tensor:
        draws = randomness.normal(stream, seed, ids, self.shape)
        return torch.from_numpy(draws).to(self.where, torch.float64)

    def of_generators(self, seed: int, ids: range) -> tuple[Tensor, np.ndarray]:
        """Latents of samples, and their places among the classes, by a generator of torch for each."""
        numbers = range(seed + ids.start, seed + ids.stop)
        noise, places = randomness.of_generators(numbers, self.shape, len(self.trained))
        return torch.from_numpy(noise).to(self.where, torch.float64), places

    def condition(self, seed: int, ids: range) -> dict[str, Tensor]:
        """What the denoiser is told of each sample: its caption, or its class, drawn from those of the
        training."""
        if self.told is not None:
            index = np.arange(ids.start, ids.stop) // self.each % len(self.told.of_image)
            return {"text": torch.from_numpy(self.told[index]).float().to(self.where)}
        if not self.classes:
            return {}
        if self.sampler.draws == "generators":
            places = self.of_generators(seed, ids)[1]
        else:
            places = (randomness.uniform("class", seed, ids) * len(self.trained)).astype(np.int64)
        index = torch.from_numpy(self.trained[places])
        return {"classes": torch.nn.functional.one_hot(index, self.classes).float().to(self.where)}

    @torch.no_grad()
    def images(self, seed: int, ids: range) -> np.ndarray:
        """uint8 images (len(ids), C, H, W) of a sampling seed."""
        condition, keyed = self.condition(seed, ids), self.sampler.draws == "keys"
        latents = self.normal("latent", seed, ids) if keyed else self.of_generators(seed, ids)[0]
        with autocast(self.precision, self.where):  # around all steps, so that weights are cast once
            samples = heun(lambda x, sigma: self.denoiser(x, sigma, condition),
                           latents, self.sampler, lambda step: self.normal(f"churn-{step}", seed, ids))
        if not torch.isfinite(samples).all():  # they would become black images
            raise FloatingPointError(f"samples {ids.start} to {ids.stop - 1} of seed {seed} are not finite: "
                                     "sampler.sigma_max or S_noise is too large, or so are the weights")
        if self.decoder is not None:
            return self.decoder.images(samples)
        return to_uint8(samples.clamp(-1, 1).float().cpu().numpy())
