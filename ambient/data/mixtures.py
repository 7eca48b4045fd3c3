"""Which images of a dataset stay clean in its mixtures."""

from __future__ import annotations

import numpy as np

from ambient.diffusion import randomness
from ambient.specs import MixtureSpec


def is_clean(spec: MixtureSpec, ids: np.ndarray) -> np.ndarray:
    """Whether each image stays clean: u(seed, id) < clean_fraction.

    A function of (seed, id) alone, so the clean sets of two fractions are nested.
    """
    return randomness.uniform("clean", spec.seed, ids) < spec.clean_fraction


def clean_images(spec: MixtureSpec, ids: np.ndarray) -> np.ndarray:
    """Whether each image stays clean (`is_clean`). Raises `ValueError` where none does."""
    clean = is_clean(spec, ids)
    if not clean.any():
        raise ValueError(f"clean_fraction {spec.clean_fraction} leaves none of {len(clean)} images "
                         "clean: raise it, or give more images")
    return clean
