"""From captions to the states that a denoiser is told, by a text encoder of any kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ambient.data.text_states import TextStates, Told
from ambient.data.texts import Texts
from ambient.specs import TextEncoderSpec
from ambient.specs.strict import build
from ambient.storage.files import naming
from ambient.training import text_encoders
from ambient.training.weights import read_description, read_weights

TOGETHER = 64  # captions encoded at once


class TextCoder(Protocol):
    """An encoder of captions, a module of torch. It is called without gradients."""

    def states(self, texts: Sequence[str]) -> Tensor:
        """The states (N, T, D) of captions, each a function of its caption alone."""

    def unknown(self, text: str) -> str | None:
        """What of a caption it has not learnt, and would leave out, in words; None: nothing."""

    def about(self) -> dict:
        """Plain data that `build` of its kind needs beside the settings."""


def read_spec(path: Path) -> tuple[TextEncoderSpec, dict]:
    """Specification and description of a stored text encoder. Raises `ValueError` naming another file."""
    about = read_description(path)
    with naming(path):
        return build(TextEncoderSpec, about["spec"], "the text encoder's specification"), about


class TextEncoder:
    """A stored text encoder. `coder` is the module of its kind, `about` the description in the file."""

    def __init__(self, path: Path, where: torch.device) -> None:
        """Raises `ValueError` naming a file that holds no text encoder."""
        self.path, (self.spec, self.about) = path, read_spec(path)
        with naming(path):
            self.coder = text_encoders.KINDS[self.spec.kind].build(self.spec, self.about["coder"])
            self.coder.load_state_dict(read_weights(path))
        self.coder.to(where).eval()

    def told(self, captions: Sequence[str]) -> Told:
        """Their states as those of images, one each. Raises `ValueError` where there are none.

        These are asked for one by one, so a word that the encoder does not know is refused whatever its
        settings leave out.
        """
        texts = Texts.of(captions)
        if not len(texts):
            raise ValueError("captions: got none, allowed: one or more for a denoiser that is told captions")
        for text in texts.texts:
            if (unknown := self.coder.unknown(text)) is not None:
                raise ValueError(f"the caption {text!r:.80}: {unknown}")
        return Told(texts, [TextStates(self.states(texts.texts), texts.digests())])

    @torch.no_grad()
    def states(self, texts: Sequence[str]) -> np.ndarray:
        """The states of captions, float16 (N, T, D). Raises `ValueError` naming one that is not finite."""
        parts = [self.coder.states(texts[first:first + TOGETHER]).cpu().numpy().astype(np.float16)
                 for first in range(0, len(texts), TOGETHER)]
        found = np.concatenate(parts)
        if bad := np.flatnonzero(~np.isfinite(found).all(axis=(1, 2))).tolist():
            raise ValueError(f"{self.path}: the states of the caption {texts[bad[0]]!r:.60} are not finite "
                             "in float16")
        return found
