"""Objects of COCO's classes in images, by a network that segments them, and their colours by CLIP.

As in GenEval (Ghosh et al. 2023): an object's colour is told from its box alone, in which all that does not
belong to it is grey. What is around it would be told, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from ambient.data.coco import NAMES
from ambient.data.prompt_forms import COLOURS
from ambient.evaluation.captioned import Seen
from ambient.evaluation.geneval import PUBLISHED, Detection, Prompt

if TYPE_CHECKING:
    from ambient.training.clip_models import ClipModel

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of RGB in [0, 255], as the network learnt it
LEAST = 0.05  # a score below which nothing is an object
GREY = 0x99  # of what does not belong to an object
TEMPLATES = ("a photo of a {colour} {name}", "a photo of a {colour}-colored {name}",
             "a photo of a {colour} object")


class Segment(NamedTuple):
    """An object: its class by its place in `NAMES`, how sure it is, and its pixels, bool (H, W)."""

    label: int
    score: float
    mask: np.ndarray

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(x0, y0, x1, y1): x1 and y1 are the first ones behind it."""
        rows, columns = (np.flatnonzero(self.mask.any(axis=axis)) for axis in (1, 0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def segments(classes: Tensor, masks: Tensor, side: int) -> list[Segment]:
    """The objects of an image of `side` pixels, the surest first, of what the network gives for Q queries.

    classes: logits (Q, C + 1) of each class and of none. masks: logits (Q, h, h). The Q most probable pairs
    of a query and a class are objects, of the pixels whose logit is above 0. An object's score is the
    probability of its class times the mean probability of its pixels.
    """
    p = classes.softmax(dim=-1)[:, :-1]
    likely, place = p.flatten().topk(len(p))
    found = []
    for score, pair in zip(likely.tolist(), place.tolist(), strict=True):
        query, label = divmod(pair, p.shape[1])
        if score < LEAST:
            break
        logits = interpolate(masks[None, query:query + 1], (side, side), mode="bilinear")[0, 0]
        inside = logits > 0
        if inside.any():
            surely = float(logits.sigmoid()[inside].mean())
            found.append(Segment(label, score * surely, inside.cpu().numpy()))
    return sorted(found, key=lambda one: -one.score)


def alone(image: np.ndarray, segment: Segment) -> np.ndarray:
    """The box of an object, uint8 (3, h, w), with grey where an image (3, H, W) shows something else."""
    x0, y0, x1, y1 = segment.box
    return np.where(segment.mask, image, np.uint8(GREY))[:, y0:y1, x0:x1]


class Colours:
    """The colour of an object by a model of images and texts, of `COLOURS`."""

    def __init__(self, model: ClipModel) -> None:
        self.model = model
        self.known: dict[str, Tensor] = {}  # the vectors of each class that was asked about

    @torch.no_grad()
    def anchors(self, name: str) -> Tensor:
        """A unit vector for each colour (10, F): the mean of those of its texts, of unit length again."""
        if name not in self.known:
            self.known[name] = self.of_texts(name)
        return self.known[name]

    def of_texts(self, name: str) -> Tensor:
        """The unit vectors of `anchors`, computed."""
        texts = [template.format(colour=colour, name=name) for colour in COLOURS for template in TEMPLATES]
        each = normalize(self.model.text_features(texts)).reshape(len(COLOURS), len(TEMPLATES), -1)
        return normalize(each.mean(dim=1))

    @torch.no_grad()
    def of(self, crops: Sequence[np.ndarray], name: str) -> list[str]:
        """That of the nearest vector, for images of objects of a class."""
        if not crops:
            return []
        near = normalize(self.model.image_features(crops)) @ self.anchors(name).T
        return [COLOURS[k] for k in near.argmax(dim=1).tolist()]


class CocoObjects:
    """What is seen in images. Colours are told of the objects of which the prompts ask one."""

    names = NAMES

    def __init__(self, network: nn.Module, side: int, model: ClipModel) -> None:
        """`side`: pixels of what the network sees; it says what is where in an image of any size."""
        self.network, self.side, self.colours = network, side, Colours(model)
        self.where = next(network.parameters()).device

    @torch.no_grad()
    def segments(self, image: np.ndarray) -> list[Segment]:
        """The objects of a square uint8 image (3, H, H)."""
        mean, std = (torch.tensor(values, device=self.where).reshape(1, 3, 1, 1) for values in (MEAN, STD))
        pixels = torch.from_numpy(np.ascontiguousarray(image)).to(self.where, torch.float32)[None]
        seen = interpolate(pixels, (self.side, self.side), mode="bilinear")
        told = self.network(pixel_values=(seen - mean) / std)
        return segments(told.class_queries_logits[0], told.masks_queries_logits[0], image.shape[-1])

    def __call__(self, images: np.ndarray, asked: Sequence[Prompt]) -> list[Seen]:
        """The detections of each image by class."""
        seen = []
        for image, prompt in zip(images, asked, strict=True):
            coloured = {clause.name for clause in prompt.include if clause.colour is not None}
            by_class: dict[str, list[Segment]] = {}
            for one in self.segments(image):
                by_class.setdefault(NAMES[one.label], []).append(one)
            seen.append({name: self.detections(image, name, ones[:PUBLISHED.largest], name in coloured)
                         for name, ones in by_class.items()})
        return seen

    def detections(self, image: np.ndarray, name: str, ones: Sequence[Segment],
                   coloured: bool) -> list[Detection]:
        """Objects of one class, with their colours where these are asked."""
        colours: Sequence[str | None] = [None] * len(ones)
        if coloured:
            colours = self.colours.of([alone(image, one) for one in ones], name)
        return [Detection(tuple(map(float, one.box)), one.score, colour)
                for one, colour in zip(ones, colours, strict=True)]
