"""The training of a small model of images and texts on captions of a dataset, and what it tells of both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ambient.data.datasets import Dataset, to_float
from ambient.diffusion import randomness
from ambient.diffusion.networks.contrastive import Contrastive, ImageTower, TextTower, matching_loss
from ambient.jobs import ranks
from ambient.jobs.state import State
from ambient.storage.arrays import Array, selected
from ambient.training.hardware import autocast, device, sent
from ambient.training.loop import fit

if TYPE_CHECKING:
    from ambient.training.text_encoders.contrastive import Spec

SHOWN = 100  # words of a vocabulary that an error lists
CHECKED = 10  # one pair in so many is kept out of training, to report how well pairs are matched
TOGETHER = 500  # images or texts at once


class ImageTextModel(Contrastive):
    """The model with its vocabulary: token 0 fills up, token k + 1 is word k."""

    def __init__(self, spec: Spec, channels: int, vocabulary: Sequence[str],
                 generator: torch.Generator) -> None:
        super().__init__(ImageTower(channels, spec.image_channels, spec.features),
                         TextTower(len(vocabulary) + 1, spec.tokens, spec.channels, spec.layers, spec.heads,
                                   spec.features), generator)
        self.count, self.channels, self.vocabulary = spec.tokens, channels, list(vocabulary)
        self.refuses = spec.unknown == "refuse"
        self.token = {word: number for number, word in enumerate(vocabulary, 1)}

    def about(self) -> dict:
        """What `build` needs beside the specification."""
        return {"channels": self.channels, "vocabulary": self.vocabulary}

    def unknown(self, text: str) -> str | None:
        """What of a caption it does not know, in words; None where it knows all."""
        words = text.lower().split()
        new = next((word for word in words if word not in self.token), None)
        if new is not None:
            some = len(self.vocabulary) > SHOWN
            allowed = f"one of its {len(self.vocabulary):,} words" if some else ", ".join(self.vocabulary)
            return f"the word {new!r:.40} is in no caption of the training, allowed: {allowed}"
        return f"{len(words)} words, allowed: at most {self.count}" if len(words) > self.count else None

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """int64 (N, T) on the model's device, without what it does not know.

        Raises `ValueError` for a caption with such words where its settings refuse them.
        """
        found = torch.zeros(len(texts), self.count, dtype=torch.int64)
        for row, text in zip(found, texts, strict=True):
            if self.refuses and (unknown := self.unknown(text)) is not None:
                raise ValueError(f"the caption {text!r:.80}: {unknown}. `unknown: leave_out` in the text "
                                 "encoder's entry leaves out what it does not know")
            words = [word for word in text.lower().split() if word in self.token][:self.count]
            row[:len(words)] = torch.tensor([self.token[word] for word in words])
        return found.to(self.log_scale.device)

    @torch.no_grad()
    def states(self, texts: Sequence[str]) -> Tensor:
        """The text tower's states (N, T, D)."""
        return self.texts.states(self.tokens(texts))

    @torch.no_grad()
    def image_features(self, images: np.ndarray) -> Tensor:
        """(N, features) of uint8 images (N, C, H, H), not of unit length."""
        where = self.log_scale.device
        parts = (torch.from_numpy(to_float(images[k:k + TOGETHER])) for k in range(0, len(images), TOGETHER))
        return torch.cat([self.images(part.to(where)).float() for part in parts])

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Tensor:
        """(N, features) of texts, not of unit length."""
        return torch.cat([self.texts(self.tokens(texts[k:k + TOGETHER])).float()
                          for k in range(0, len(texts), TOGETHER)])

    def cosines(self, images: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """The cosine of each image with its text, float64 (N,)."""
        pairs = normalize(self.image_features(images)) * normalize(self.text_features(texts))
        return pairs.sum(dim=1).double().cpu().numpy()


def captions_of(data: Dataset) -> list[str]:
    """The caption of each image. Raises `ValueError` where an image has none."""
    captions = [None] * len(data.ids) if data.captions is None else data.captions.of_images()
    if None in captions:
        raise ValueError(f"image {data.ids[captions.index(None)]} has no caption: a model of images and "
                         "texts learns from pairs; give a dataset with captions")
    return captions


def vocabulary_of(spec: Spec, data: Dataset) -> list[str]:
    """The words of all captions, in alphabetical order.

    Raises `ValueError` for a caption of too many, where those behind the first ones are not left out.
    """
    words: set[str] = set()
    for caption in set(captions_of(data)):
        own = caption.lower().split()
        if len(own) > spec.tokens and spec.unknown == "refuse":
            raise ValueError(f"the caption {caption!r:.80} has {len(own)} words, allowed: at most tokens = "
                             f"{spec.tokens}. `unknown: leave_out` in the text encoder's entry leaves out "
                             "those behind")
        words.update(own[:spec.tokens])
    return sorted(words)


class Batches:
    """The loss of each step, a function of the images seen."""

    def __init__(self, spec: Spec, model: ImageTextModel, images: Array, captions: Sequence[str]) -> None:
        self.spec, self.model, self.processor, self.images = spec, model, device(), images
        distinct = sorted(set(captions))
        place = {caption: number for number, caption in enumerate(distinct)}
        self.texts = torch.tensor([place[caption] for caption in captions])
        self.tokens = model.tokens(distinct).cpu()

    def loss(self, nimg: int, share: object = None) -> Tensor:
        """`matching_loss` of a batch of pairs. Each meets all others, so every rank computes all."""
        generator = randomness.torch_generator("cpu", "contrastive", self.spec.seed, nimg)
        rows = torch.randint(len(self.images), (self.spec.batch,), generator=generator)
        x = sent(torch.from_numpy(to_float(self.images[rows.numpy()])), self.processor)
        texts = self.texts[rows]
        with autocast("bfloat16", self.processor):
            similar = self.model.similarities(x, sent(self.tokens[texts], self.processor))
        return matching_loss(similar.float(), sent(texts, self.processor))


def trained(spec: Spec, record, model: ImageTextModel, data: Dataset, state: State) -> ImageTextModel:
    """The model with averaged weights; the manifest gets how well it matches held-out pairs."""
    captions, every = captions_of(data), np.arange(len(data.images))
    parts = []
    for kept in (False, True):
        rows = np.flatnonzero((every % CHECKED == 0) == kept)
        parts.append((selected(data.images, rows), [captions[row] for row in rows]))
    model.to(device())
    fit("text_encoder", model, spec.optimiser(), Batches(spec, model, *parts[0]).loss, state, (spec.nimg,),
        lambda nimg, averages: state.put(f"snapshot-{nimg}", averages[0]))
    ranks.barrier()  # the first one writes the snapshot
    model.load_state_dict(state.get(f"snapshot-{spec.nimg}")[0])
    model.eval()
    record.facts |= {"images_seen": spec.nimg, "words": len(model.vocabulary),
                     "captions": len(set(captions))} | matched(model, *parts[1])
    return model


def matched(model: ImageTextModel, images: Array, captions: Sequence[str]) -> dict[str, float]:
    """The mean cosine of held-out images with their own texts, and with those of other images.

    Also the share of images to which, of all held-out texts, their own is nearest, and what chance is.
    """
    distinct = sorted(set(captions))
    place = {caption: k for k, caption in enumerate(distinct)}
    texts, right, total, hits = normalize(model.text_features(distinct)), 0.0, 0.0, 0
    for first in range(0, len(captions), TOGETHER):
        part = slice(first, first + TOGETHER)
        similar = (normalize(model.image_features(images[part])) @ texts.T).double().cpu()
        own = torch.tensor([place[caption] for caption in captions[part]])
        right += similar[torch.arange(len(own)), own].sum().item()
        total += similar.sum().item()
        hits += int((similar.argmax(1) == own).sum())
    count, pairs = len(captions), len(captions) * len(distinct)
    return {"held_out_images": count, "cosine": right / count,
            "cosine_of_others": (total - right) / max(pairs - count, 1), "accuracy": hits / count,
            "chance": 1 / len(distinct)}
