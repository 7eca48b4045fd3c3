"""Encoder `sd_vae`: the autoencoder of Stable Diffusion, from a local folder of the library diffusers.

Unless `signed` is true its ranges are those of EDM2's public weights: images enter in [0, 1], not in [-1, 1]
as the autoencoder was trained, and decoded images are cut to grey levels. Latents are not multiplied by
diffusers' scaling factor: shift and scale say what becomes of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from ambient.specs import EncoderSpec
from ambient.specs.strict import later, require
from ambient.storage.files import naming

if TYPE_CHECKING:
    from ambient.training.pretrained_vae import PretrainedVAE

FILE = "diffusion_pytorch_model.safetensors"
ADVICE = ("give the local folder of stabilityai/sd-vae-ft-mse (EDM2) or of SDXL's vae (MicroDiT), which has "
          f"{FILE} and config.json, as encoders.<name>.weights in config/local.yaml")


@dataclass(frozen=True)
class Spec(EncoderSpec):
    """`widths` and `layers` are those of the published one; a folder of another architecture is refused."""

    PACKAGES: ClassVar[tuple[str, ...]] = ("diffusers",)
    ADVICE: ClassVar[str] = ADVICE
    LICENCE: ClassVar[str] = "MIT (sd-vae-ft-mse), OpenRAIL++-M (SDXL's)"

    latent_channels: int = 4  #: channels of a latent
    #: channels of the network at each level; each level but the first halves the side
    widths: tuple[int, ...] = (128, 256, 512, 512)
    layers: int = 2  #: residual blocks of each encoder level; a decoder level has one more
    precision: Literal["float32", "bfloat16"] = "float32"  #: of the network's arithmetic
    sha256: str | None = None  #: of the folder; any other content is refused
    #: images enter in [-1, 1], as the autoencoder was trained and MicroDiT's latents made; else in [0, 1]
    signed: bool = later(False)

    def __post_init__(self) -> None:
        require(self.latent_channels > 0, "latent_channels", self.latent_channels, ">= 1")
        super().__post_init__()
        require(bool(self.widths) and all(width > 0 and width % 32 == 0 for width in self.widths), "widths",
                self.widths, "one multiple of 32, or several")
        require(self.layers > 0, "layers", self.layers, ">= 1")

    @property
    def channels(self) -> int:
        return self.latent_channels

    @property
    def factor(self) -> int:
        return 2 ** (len(self.widths) - 1)

    def multiply_adds(self, resolution: int, channels: int) -> float:
        """About ten convolutions of each level, as the decoder has; the encoder takes half of that."""
        return sum(9 * 10 * width**2 * (resolution >> level) ** 2 for level, width in enumerate(self.widths))


def build(spec: Spec, channels: int) -> PretrainedVAE:
    """The network before it has weights. Raises `ValueError` where diffusers is missing."""
    try:
        from ambient.training.pretrained_vae import PretrainedVAE
    except ImportError as error:
        raise ValueError(f"an encoder of kind sd_vae needs the package diffusers ({error}): "
                         "in the clone, pip install --editable '.[pretrained]'") from None
    return PretrainedVAE(channels, spec.latent_channels, spec.widths, spec.layers, spec.precision,
                         spec.signed)


def make(spec: Spec, record, *, data, weights: Path | None, state) -> PretrainedVAE:
    """The network with the weights of a folder. Raises `ValueError` for one that holds another network's."""
    from ambient.training.hardware import device

    coder = build(spec, data.images.shape[1])
    if weights is None or not (weights / FILE).is_file():
        raise ValueError(f"encoders.<name>.weights: got {weights}, allowed: a folder with {FILE}; {ADVICE}")
    digest = record.external("vae", weights, "an autoencoder, from outside")
    if digest != (spec.sha256 or digest):
        raise ValueError(f"{weights}: sha256 is {digest}, the configuration's sha256 is {spec.sha256}")
    with naming(weights):
        coder.fill(weights)
    return coder.to(device()).eval()
