"""Detector `inception`: Inception-v3 in NVIDIA's port, from a local file or by clean-fid's download.

The only detector whose distances are called `fid` or `fid-clean`.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ambient.specs import DetectorSpec
from ambient.specs.strict import require
from ambient.storage.files import atomic

if TYPE_CHECKING:
    from torch import Tensor

# NVIDIA's inception-2015-12-05.pt, the TorchScript port of the FID network: 95,607,719 bytes. The published
# FIDs of EDM and its successors, and clean-fid's, are of this very file; k-diffusion pins the same digest.
INCEPTION_SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
METRICS = {"legacy": "fid", "clean": "fid-clean"}  # by who resizes
# What a score of each of these names is recorded with.
PROTOCOLS = {metric: {"resize": resize, "weights_sha256": INCEPTION_SHA256}
             for resize, metric in METRICS.items()}
SIDE, FEATURES = 299, 2048


@dataclass(frozen=True)
class Spec(DetectorSpec):
    """`resize` says who brings images to 299 x 299 pixels.

    `legacy`: the network itself, from uint8 images, as for published FIDs; the metric is `fid`. `clean`:
    clean-fid's bicubic resizing before it; the metric is `fid-clean`.
    """

    FLOPS: ClassVar[float] = 11.5e9  # at 299 x 299 pixels
    RATE: ClassVar[float] = 100  # images/s that one process resizes
    FULL_RANK: ClassVar[bool] = True
    RESIZES: ClassVar[bool] = True
    LICENCE: ClassVar[str] = "NVIDIA's terms (Inception-v3)"
    APART_FROM_WEIGHTS: ClassVar[Mapping] = {"resize": "clean", "sha256": None}
    OWN_METRICS: ClassVar[Mapping] = PROTOCOLS

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.features == FEATURES, "features", self.features, f"{FEATURES}, those of Inception-v3")
        require(self.sha256 in (None, INCEPTION_SHA256), "sha256", self.sha256,
                f"{INCEPTION_SHA256} or null: the file is a program, and only this one is run")

    def metric(self, name: str) -> str:
        return metric_of(METRICS[self.resize], self.against and self.against.dataset)

    def protocol(self) -> dict:
        return PROTOCOLS[METRICS[self.resize]]


def make(spec: Spec, record, *, data: Path, weights: Path | None, state, out: Path) -> None:
    """Put the Inception weights at `out`. Raises `ValueError` with what to do where they can't be had."""
    from cleanfid.downloads_helper import check_download_inception

    name = "inception-2015-12-05.pt"
    with tempfile.TemporaryDirectory() as folder:
        source = weights or Path(folder, name)
        if not weights:
            try:
                check_download_inception(fpath=folder)
            except OSError as error:
                raise ValueError(
                    f"clean-fid could not download {name} ({error}). On a machine without network: "
                    "fetch it elsewhere and set detectors.inception.weights to the local file (see "
                    "config/local.example.yaml), or choose a detector of kind classifier") from None
        if not source.is_file():
            raise ValueError(f"detectors.inception.weights: no such file {source}")
        content = program(source)
        record.external("inception", source, "NVIDIA's port of Inception-v3, as clean-fid downloads it")
        with atomic(out) as temporary:
            temporary.write_bytes(content)


def program(path: Path) -> bytes:
    """Inception's file, read once. Raises `ValueError` for any file but NVIDIA's inception-2015-12-05.pt.

    TorchScript is a program: it can read and write any file of whoever runs it. So its digest is compared
    at every load, with the digest written in this package and with no setting or manifest.
    """
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != INCEPTION_SHA256:
        raise ValueError(f"{path}: sha256 is {digest}, allowed: {INCEPTION_SHA256}, NVIDIA's "
                         "inception-2015-12-05.pt (TorchScript is a program, and no other one is run); fetch "
                         "that file, or choose a detector of kind classifier")
    return content


@cache
def bicubic(side: int) -> Tensor:
    """Pillow's bicubic resizing of a line of `side` pixels to 299, as a matrix (side, 299), float32.

    Resizing is linear, and columns do not mix: Pillow says what it does to each pixel when it widens the unit
    matrix. For a whole batch the product is many times as fast as Pillow, image by image.
    """
    import torch
    from PIL import Image

    unit = Image.fromarray(np.eye(side, dtype=np.float32))
    wide = unit.resize((SIDE, side), resample=Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(wide))


def features(spec: Spec, path: Path) -> Callable[[np.ndarray], Tensor]:
    """Features of Inception-v3, resized by the network itself (`legacy`) or as clean-fid does (`clean`).

    legacy: clean-fid's `legacy_tensorflow`; images enter with their own size and values in [0, 255].
    clean: Pillow's bicubic in float, cut to [0, 255], then the network's layers after its own resizing.
    """
    import torch

    from ambient.training.hardware import device

    # clean-fid's wrapper insists on a fixed file name and loads whatever has it: its lines are here.
    processor = device()
    network = torch.jit.load(io.BytesIO(program(path)), map_location=processor).eval()

    def of(images: np.ndarray) -> Tensor:
        rgb = np.repeat(images, 3, axis=1) if images.shape[1] == 1 else images
        x = torch.from_numpy(rgb).to(processor, torch.float32)
        if spec.resize == "legacy":
            return network(x, return_features=True).reshape(len(x), FEATURES)
        rows, columns = (bicubic(side).to(processor) for side in x.shape[2:])
        x = (rows.T @ (x @ columns)).clamp(0, 255)
        return network.layers((x - 128) / 128).reshape(len(x), FEATURES)

    return of


def metric_of(name: str | None, against: str | None) -> str:
    """What a distance in Inception's features is called: `fid` to the study's own images, `fid-<dataset>` to
    others."""
    return f"{name}-{against}" if against else str(name)


def misnamed(spec: Mapping, detector_sha256: str) -> str | None:
    """Why a score must not be called what it is called, in words; None where it may.

    `spec` is the plain specification of the score's manifest, `detector_sha256` the digest of the detector
    that it was measured with. A score named after Inception is one of INCEPTION_SHA256 and of nothing else.
    """
    detector = spec.get("detector")
    detector = detector if isinstance(detector, Mapping) else {}
    metric, kind = spec.get("metric"), detector.get("kind")
    if kind != "inception" and not str(metric).startswith("fid"):
        return None
    if kind != "inception" or detector_sha256 != INCEPTION_SHA256:
        return (f"called {metric}, but its detector {detector_sha256[:12]}… is not Inception's file "
                f"{INCEPTION_SHA256[:12]}…")
    against = detector.get("against")
    expected = metric_of(METRICS.get(str(detector.get("resize", "clean"))),
                         against.get("dataset") if isinstance(against, Mapping) else None)
    return None if metric == expected else f"called {metric}, but its images were resized as for {expected}"
