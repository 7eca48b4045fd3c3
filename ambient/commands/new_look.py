"""What `ambient new` says of a folder of images: counts, sizes, conversions, and what is against it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from ambient.commands.new_parts import Part
from ambient.data.photos import COPY, Photos

GOOD_LEAST, OTHER_LEAST, ALL_LEAST = 30, 30, 200  # images below which nothing can be learnt here
TOGETHER = 256  # images that are summed at once
ALIKE = 2.0  # grey levels: standard deviation between images below which they are all the same


def counted(counts: Counter[str], examples: dict[str, str]) -> Iterator[str]:
    """A line for each thing that was done, or reason to leave out, the most frequent first."""
    for what, count in counts.most_common():
        if count:
            yield f"    {count:>7,} {what}" + (f" (such as {examples[what]})" if what in examples else "")


def described(photos: Photos) -> Iterator[str]:
    """What was read, line by line."""
    short, long = photos.sizes.min(1), photos.sizes.max(1)
    yield f"  {len(photos.names):,} image files, of which {len(photos.rows):,} can be used"
    yield (f"  sizes: shorter side {short.min()} to {short.max()} pixels, half of them "
           f"{np.median(short):.0f} or more; longest side {long.max()}")
    if photos.converted:
        yield "  converted:"
        yield from counted(photos.converted, photos.examples)
    if +photos.left_out:
        yield "  left out (the files stay as they are):"
        yield from counted(photos.left_out, photos.examples)


def kinds(parts: Sequence[Part]) -> Iterator[str]:
    """The parts: how many images, and by what they are told."""
    for part in parts:
        yield f"  {part.name + ':':14}{part.count:>7,} images: {part.by}"


def against(parts: Sequence[Part]) -> Iterator[str]:
    """Why nothing can be made of these images; nothing where something can."""
    good, *others = parts
    total = sum(part.count for part in parts)
    if good.count < GOOD_LEAST:
        yield (f"{good.count} good images are too few: the noise classifier learns from them what good looks "
               f"like, and a fifth of them is held out to see whether it did. At least {GOOD_LEAST} are "
               "needed")
    for part in others:
        if part.count < OTHER_LEAST:
            yield (f"{part.count} {part.name} images are too few for a noise classifier of their own: at "
                   f"least {OTHER_LEAST} of a kind are needed"
                   + (". Put them into the folder of another kind" if len(others) > 1 else "")
                   + (". Train on the good ones alone" if good.count >= ALL_LEAST else ""))
    if not others:
        yield all_good(good)
    if total < ALL_LEAST:
        yield (f"{total} images in all are too few to train a model that does more than repeat them: at "
               f"least {ALL_LEAST} are needed")
    yield from both(parts)
    if spread([part.photos.images for part in parts]) < ALIKE:
        yield "all images look alike: they differ by less than two grey levels"


def all_good(good: Part) -> str:
    """What is said where there are no others: by a score, from which one on some would be others."""
    scores = good.photos.scores
    if good.select.at_least is None:
        return "all images are good: there are no others to use at high noise. Train on them as they are"
    lowest, above = scores.min(), scores[scores > scores.min()]
    if not len(above):
        return f"all images have the same score, {lowest:g}, which can't tell the good ones"
    return (f"all images are good by their scores: {lowest:g} is the lowest, of {len(scores) - len(above):,} "
            f"images. Say from which one on an image is good, such as --at-least {above.min()}")


def spread(groups: Sequence[np.ndarray]) -> float:
    """The standard deviation of each value over all images (N, C, H, H) of several groups, its mean.

    Sums of some images at a time: as float64 all of 200,000 would take eight times their bytes.
    """
    count, total, squares = 0, 0.0, 0.0
    for images in groups:
        for first in range(0, len(images), TOGETHER):
            part = images[first:first + TOGETHER].astype(np.float64)
            count, total, squares = count + len(part), total + part.sum(0), squares + (part**2).sum(0)
    return float(np.sqrt(np.maximum(squares / count - (total / count) ** 2, 0.0)).mean())


def both(parts: Sequence[Part]) -> Iterator[str]:
    """Kinds of two folders that share images."""
    for one, other in combinations(parts, 2):
        shared = set(one.photos.digests) & set(other.photos.digests)
        if shared:
            name = one.photos.names[one.photos.rows[one.photos.digests.index(min(shared))]]
            yield (f"{len(shared)} images, such as {name}, are {one.name} by {one.path} and {other.name} by "
                   f"{other.path}: an image is one of them. Put the one folder into the other, or name the "
                   "good images in a list (--good good.txt)")


def warnings(looked: Mapping[Path, Photos], parts: Sequence[Part], resolution: int) -> Iterator[str]:
    """What the owner should know, though it stops nothing. `looked`: the images of each folder."""
    for path, photos in looked.items():
        small = sum(count for what, count in photos.left_out.items() if what.startswith("smaller than"))
        if small > len(photos.names) / 10:
            yield (f"{small:,} images of {path} are smaller than {resolution} pixels and are left out: a "
                   "lower --resolution would take them in")
    good, *others = parts
    if good.count > sum(part.count for part in others):
        yield "there are more good images than others: the others can add little"
    duplicates = sum(photos.left_out[COPY] for photos in looked.values())
    if duplicates:
        yield (f"{duplicates:,} files have the content of another: they are one image, good where any of "
               "them is")
