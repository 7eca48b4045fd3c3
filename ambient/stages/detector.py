"""Stage: make the detector whose features distances are measured in.

Kind `inception`: NVIDIA's port of Inception-v3, from a local file or by clean-fid's download.
Kind `classifier`: class classifiers trained here on the full clean dataset, where Inception can't be
had or (16x16 digits) means little.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ambient.data.datasets import Dataset, read, to_float
from ambient.diffusion import randomness
from ambient.diffusion.augment import augment
from ambient.evaluation.features import ClassNets, inception_bytes
from ambient.jobs.state import State
from ambient.jobs.stopping import patiently
from ambient.specs import DetectorSpec, OptimiserSpec
from ambient.storage.files import atomic
from ambient.training import shares
from ambient.training.hardware import autocast, device
from ambient.training.loop import fit
from ambient.training.weights import save_weights

CHECKED = 10  # one image in so many is kept out of training, to report the accuracy
AUGMENT = ("scale", "rotate", "translate")


def fetch_inception(spec: DetectorSpec, record, *, data: Path, weights: Path | None, state: State,
                    out: Path) -> None:
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
        content = inception_bytes(source)
        record.external("inception", source, "NVIDIA's port of Inception-v3, as clean-fid downloads it")
        with atomic(out) as temporary:
            temporary.write_bytes(content)


class ClassBatches:
    """The members' summed cross-entropy on augmented training images, a function of images seen."""

    def __init__(self, spec: DetectorSpec, data: Dataset, network: ClassNets,
                 where: torch.device) -> None:
        self.spec, self.network, self.where = spec, network, where
        self.images = torch.from_numpy(to_float(data.images))
        self.labels = torch.from_numpy(data.labels)
        every = torch.arange(len(self.images))
        self.train, self.check = every[every % CHECKED != 0], every[every % CHECKED == 0]

    def loss(self, nimg: int, share: shares.Share = shares.WHOLE) -> Tensor:
        generator = randomness.torch_generator("cpu", "detector", self.spec.seed, nimg)
        rows = self.train[torch.randint(len(self.train), (self.spec.batch,), generator=generator)]
        images, _ = augment(self.images[rows], generator, 0.5, AUGMENT)
        mine = share.rows(len(rows))
        with autocast("bfloat16", self.where):
            logits = self.network(images[mine].to(self.where)).float()
        labels = self.labels[rows[mine]].to(self.where)
        return len(logits) * cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)))

    @torch.no_grad()
    def accuracy(self) -> float:
        """Share of the checked images whose class is right, in the mean over members."""
        right = sum((self.network(self.images[rows].to(self.where)).argmax(2).cpu()
                     == self.labels[rows]).sum().item() for rows in self.check.split(500))
        return right / len(self.check) / self.spec.members


def train_classifier(spec: DetectorSpec, record, *, data: Path, weights: None, state: State,
                     out: Path) -> None:
    """Train a class classifier on `data`."""
    dataset, where = read(data), device()
    labels = np.unique(dataset.labels)
    if labels[0] < 0 or len(labels) < 2:
        raise ValueError(f"{data}: a detector of kind classifier needs a dataset with classes, two or more, "
                         f"and a label for every image; its labels begin with {labels[:4].tolist()}")
    network = ClassNets(spec.members, dataset.images.shape[1], spec.channels, spec.features,
                        dataset.num_classes)
    generator = randomness.torch_generator("cpu", "init", spec.seed)
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, generator=generator)
            nn.init.zeros_(layer.bias)
    network.to(where)
    batches = ClassBatches(spec, dataset, network, where)
    optimiser = OptimiserSpec(nimg=spec.nimg, batch=spec.batch, lr=spec.lr, ramp_nimg=0,
                              decay="cosine", clip=spec.members**0.5, ema_halflife_nimg=spec.batch,
                              ema_ramp=1.0, precision="bfloat16")
    fit("detector", network, optimiser, batches.loss, state, (), lambda nimg, weights: None)
    network.eval()
    record.facts |= {"images_seen": spec.nimg, "accuracy": batches.accuracy(),
                     "checked_images": len(batches.check)} | state.history()
    patiently(save_weights, out, network.state_dict(), {
        "members": spec.members, "channels_in": dataset.images.shape[1], "channels": spec.channels,
        "features": spec.features, "classes": dataset.num_classes})


MAKERS = {"classifier": train_classifier, "inception": fetch_inception}


def main(spec: DetectorSpec, record, *, data: Path, weights: Path | None, state: State,
         out: Path) -> None:
    """`out` gets the detector's weights; the accuracy on images not trained on goes in the manifest."""
    if spec.weights is not None:  # a specification is recorded, and a local path must not be
        raise ValueError(f"weights: got {spec.weights!r}, allowed: null here; give them as --weights")
    MAKERS[spec.kind](spec, record, data=data, weights=weights, state=state, out=out)
