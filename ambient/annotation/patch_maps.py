"""How probably each patch of an image is of the target, by classifiers of crops (section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ambient.annotation.classifier import Classifier, of_crops
from ambient.data.datasets import Dataset, to_float
from ambient.data.patch_maps import PatchMaps
from ambient.data.shown import shown
from ambient.diffusion import crops as crop_rules
from ambient.specs import PatchMapsSpec


@torch.no_grad()
def probability_map(classifier: Classifier, image: np.ndarray, sigma: float) -> np.ndarray:
    """P(target) of the patch at each pixel, float32 (H, H), of a uint8 image (C, H, H).

    Each patch is seen alone, at its place on a zero canvas, without noise; the classifier is told `sigma`.
    """
    x0 = torch.from_numpy(to_float(image[None]))
    masks = crop_rules.patches(x0.shape[-1], classifier.spec.crop)
    p = torch.sigmoid(-torch.cat([classifier.logits(x0 * mask, sigma) for mask in masks]))
    return (p[:, None, None] * masks[:, 0]).sum(dim=0).numpy()


def chosen(spec: PatchMapsSpec, data: Dataset, seen: Dataset | None) -> np.ndarray:
    """The rows of `data` that are shown, drawn by id: of the other dataset, or of the target.

    Of the target's images those are shown that the classifiers were not trained on: that are not in `seen`.
    Raises `ValueError` where there is none.
    """
    if spec.shown == "target" and seen is None:
        raise ValueError("shown: got target, which needs --seen, the images that the classifiers have seen")
    rows = np.flatnonzero(data.corrupted if spec.shown == "other" else ~np.isin(data.ids, seen.ids))
    if not len(rows):
        raise ValueError(f"shown: got {spec.shown}, and the data hold no such image")
    return rows[shown(data.ids[rows], spec.images, spec.seed)]


def patch_maps(spec: PatchMapsSpec, data: Dataset, rows: np.ndarray, files: Sequence[Path]) -> PatchMaps:
    """The maps of some rows by the classifier of each crop size, on the CPU.

    Raises `ValueError` for a classifier of whole images, and for two of one crop size.
    """
    maps = {size: np.stack([probability_map(classifier, data.images[row], spec.crop_sigma) for row in rows])
            for size, classifier in of_crops(files, torch.device("cpu")).items()}
    return PatchMaps(data.images[rows], data.ids[rows], maps)
