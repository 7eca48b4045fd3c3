"""CLIP's text tower with its tokenizer, as an `ambient.training.text_encoding.TextCoder`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from ambient.data.bpe import VOCABULARY, Tokenizer
from ambient.diffusion.networks.text_tower import TextTower
from ambient.training.hardware import autocast
from ambient.training.public_weights import load_strictly, read_tensors

PREFIX = "text."  # of the tower's tensors in checkpoints whose model has the tower as a part of its own


class ClipTexts(nn.Module):
    """A text tower; the list of merges is one of its buffers, so that a stored tower is complete."""

    def __init__(self, width: int, heads: int, layers: int, context: int, features: int, quick_gelu: bool,
                 precision: str, merges: int) -> None:
        """`merges`: bytes of the list of merges."""
        super().__init__()
        self.context, self.precision = context, precision
        self.tower = TextTower(VOCABULARY, context, width, heads, layers, features, quick_gelu)
        self.register_buffer("merges", torch.zeros(merges, dtype=torch.uint8))

    def fill(self, checkpoint: Path, merges: bytes) -> None:
        """Take the tower's tensors of a checkpoint, and the list of merges.

        Raises `ValueError` naming the first tensor of the tower that is missing or misshapen.
        """
        self.take(read_tensors(checkpoint))
        self.merges.copy_(torch.frombuffer(bytearray(merges), dtype=torch.uint8))

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        """The tower's tensors of all that a checkpoint holds."""
        if any(name.startswith(PREFIX) for name in tensors):
            tensors = {name.removeprefix(PREFIX): one for name, one in tensors.items() if
                       name.startswith(PREFIX)}
        own = self.tower.state_dict()
        load_strictly(self.tower, {name: one for name, one in tensors.items() if name in own})

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Of the list of merges."""
        return Tokenizer(self.merges.cpu().numpy().tobytes().decode())

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """Token ids (N, T) on the tower's device."""
        return torch.from_numpy(self.tokenizer(texts, self.context)).to(self.merges.device)

    def unknown(self, text: str) -> str | None:
        """Nothing: any word is made of tokens. What lies behind the last place is left out, as by CLIP."""
        return None

    def states(self, texts: Sequence[str]) -> Tensor:
        """The states (N, T, D) of texts, after the final norm, at all positions."""
        with autocast(self.precision, self.merges.device):
            return self.tower.states(self.tokens(texts)).float()

    def about(self) -> dict:
        """What `build` needs beside the settings."""
        return {"merges": len(self.merges)}
