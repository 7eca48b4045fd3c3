"""Randomness as a function of position, never of history.

Every draw is named by a key of whole numbers (seed, stream, position...). So a result does not
depend on batch size, number of workers or ranks, the order of work, or interruptions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

TWISTER = slice(3, 627)  # the words of the Mersenne Twister in the state of torch's CPU generator


def key(*position: int | str) -> int:
    """A 128-bit number from a position: SHA-256 of its parts, so nearby positions are unrelated."""
    text = "/".join(str(part) for part in position)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")


def numpy_generator(*position: int | str) -> np.random.Generator:
    """A counter-based (Philox) numpy generator for a position."""
    return np.random.Generator(np.random.Philox(key=key(*position)))


def torch_generator(device: torch.device | str, *position: int | str) -> torch.Generator:
    """A torch generator on `device` for a position.

    On a CPU torch keeps 32 bits of a seed, so that two steps of a long run could meet the same draws: here
    all words of its Mersenne Twister are set, from Philox with the whole key. On a GPU torch's generator is
    Philox itself, of which the seed is the key, 64 bits.
    """
    import torch

    generator = torch.Generator(device)
    if generator.device.type != "cpu":
        return generator.manual_seed(key(*position) & (2**64 - 1))
    state = generator.get_state()  # a fresh one: its words are shuffled before the first is given out
    words = np.random.Philox(key=key(*position)).random_raw(624) >> np.uint64(32)
    state.view(torch.int64)[TWISTER] = torch.from_numpy(words.astype(np.int64))
    return generator.set_state(state)


def uniform(stream: str, seed: int, ids: Iterable[int]) -> np.ndarray:
    """One number in [0, 1) for each id, float64 of shape (N,): independent of the other ids."""
    return np.array([numpy_generator(stream, seed, int(i)).random() for i in ids])


def normal(stream: str, seed: int, ids: Iterable[int], shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal draws for each id, float32 of shape (N, *shape)."""
    ids = list(ids)
    draws = np.empty((len(ids), *shape), np.float32)
    for row, i in zip(draws, ids, strict=True):
        numpy_generator(stream, seed, int(i)).standard_normal(dtype=np.float32, out=row)
    return draws


def of_generators(numbers: Iterable[int], shape: tuple[int, ...],
                  classes: int) -> tuple[np.ndarray, np.ndarray]:
    """(noise, float32 (N, *shape), a place below `classes`, int64 (N,)) as the public EDM2 samples have them.

    Each image has torch's CPU generator with its number, modulo 2^32, for a seed: the noise comes first. Here
    torch says which numbers they are, so that another version of it may give others.
    """
    import torch

    noise, places = [], []
    for number in numbers:
        generator = torch.Generator().manual_seed(int(number) % 2**32)
        noise.append(torch.randn(shape, generator=generator).numpy())
        places.append(int(torch.randint(max(classes, 1), (), generator=generator)))
    return np.stack(noise), np.array(places)
