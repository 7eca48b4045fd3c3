"""Images with a caption each, as archives for text-to-image training hold them: bytes beside a text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from ambient.data.captions import clean_caption
from ambient.data.photos import told
from ambient.data.pictures import Unreadable, opened, plain
from ambient.data.raw import Raw
from ambient.data.readers import Reading
from ambient.data.side_by_side import side_by_side
from ambient.data.squares import CROPS
from ambient.jobs.progress import Progress
from ambient.specs import DatasetSpec

Made = TypeVar("Made")
TARS = (".tgz", ".tbz", ".tbz2", ".txz", ".tzst")  # short endings of compressed tars


@dataclass(frozen=True)
class Pair:
    """A sample: its name in errors, its caption, and what gives the bytes of its image file."""

    name: str
    caption: str
    content: Callable[[], bytes]


def named(raw: Raw, ending: str, what: str, left_out: Counter[str]) -> list[str]:
    """The sorted names of the files with an ending, whatever its case. Others are counted in `left_out`.

    Raises `ValueError` where there is none, and naming one that has to be decompressed first.
    """
    taken = [name for name in sorted(raw.files) if name.lower().endswith(ending)]
    for name in sorted(raw.files.keys() - set(taken)):
        if f"{ending}." in name.lower() or ending == ".tar" and name.lower().endswith(TARS):
            raise ValueError(f"{raw.path}: {name} is compressed, which is not read here: decompress it, or "
                             "take it out")
        left_out[f"files that are not {ending}"] += 1
    if not taken:
        raise ValueError(f"{raw.path}: neither {what} nor a folder of such")
    return taken


def reading(spec: DatasetSpec, crop: str, pairs: list[Pair], path: Path, read_from: str,
            files_left_out: Counter[str]) -> Reading:
    """Those pairs that can be used, as a source gives them: an id is the place among all pairs.

    An image whose caption is empty is left out and counted, beside the files that the source left out. So is
    one whose shorter side is below the resolution, unless `enlarge` says that it is taken. Raises
    `ValueError` naming an image that can't be decoded: when its head is read, or its pixels.
    """
    if not pairs:
        raise ValueError(f"{path}: no image with a caption in it")
    if spec.clean_captions:
        pairs = [replace(pair, caption=clean_caption(pair.caption)) for pair in pairs]
    if broken := next((pair.name for pair in pairs if "\n" in pair.name), None):
        raise ValueError(f"{path}: {broken!r} has a line break in its name: rename it")
    left_out, converted = Counter(+files_left_out), Counter()
    progress, rows = Progress("look", len(pairs)), []
    for row, pair in enumerate(pairs):
        reason = None
        if not pair.caption.strip():
            reason = "images without a caption"
        elif smaller(spec, naming(path, pair, lambda pair=pair: opened(pair.content()).size)):
            reason = f"smaller than {spec.resolution} pixels"
        if reason is None:
            rows.append(row)
        else:
            left_out[reason] += 1
        progress.update(row + 1)
    if not rows:
        raise ValueError(f"{path}: none of {len(pairs)} images can be used: {told(left_out)}")

    def images(wanted: np.ndarray) -> Iterator[np.ndarray]:
        for made, done in side_by_side([pairs[row] for row in wanted.tolist()],
                                       lambda pair: naming(path, pair, pair.content),
                                       partial(pixels, path, spec, crop)):
            converted.update(done)
            yield made

    return Reading(np.full(len(pairs), -1), {}, "none (captions)", spec.resolution, spec.channels, images,
                   converted, left_out, rows=np.array(rows), files=[pairs[row].name for row in rows],
                   captions=[pairs[row].caption for row in rows], captions_from=read_from)


def smaller(spec: DatasetSpec, size: tuple[int, int]) -> bool:
    """Whether an image is left out for its size."""
    return min(size) < spec.resolution and not spec.enlarge


def naming(path: Path, pair: Pair, of: Callable[[], Made]) -> Made:
    """What `of` makes of the image file of a pair. Raises `ValueError` with its name where it is no image."""
    try:
        return of()
    except Unreadable as error:
        raise ValueError(f"{path}: the image of {pair.name} is {error}: take the sample out, or repair "
                         "it") from None


def pixels(path: Path, spec: DatasetSpec, crop: str, pair: Pair,
           content: bytes) -> tuple[np.ndarray, list[str]]:
    """An image file as uint8 (C, H, H), and what was done to it. Raises as `naming`."""
    image, done = naming(path, pair, lambda: plain(content, spec.channels, spec.resolution))
    if min(image.size) < spec.resolution:
        done.append(f"enlarged, and blurred by that, to {spec.resolution} pixels")
    if image.width != image.height:
        done.append(f"{'padded' if crop == 'pad' else 'cropped'} to a square ({crop})")
    square = np.asarray(CROPS[crop](image, spec.resolution))
    return (square[None] if spec.channels == 1 else square.transpose(2, 0, 1)), done
