"""Images with a caption each, as archives for text-to-image training hold them: bytes beside a text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from ambient.data.captions import clean_caption
from ambient.data.photos import told
from ambient.data.pictures import DECODERS, Unreadable, opened, plain
from ambient.data.raw import Raw
from ambient.data.readers import Reading
from ambient.data.side_by_side import side_by_side
from ambient.data.squares import CROPS
from ambient.jobs.progress import Progress
from ambient.specs import DatasetSpec

Made = TypeVar("Made")
TOGETHER = 2**16  # images whose heads are read before it is noted what they say
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


def reading(spec: DatasetSpec, crop: str, pairs: list[Pair], raw: Raw, read_from: str,
            files_left_out: Counter[str]) -> Reading:
    """Those pairs that can be used, as a source gives them: an id is the place among all pairs.

    An image whose caption is empty is left out and counted, beside the files that the source left out. So is
    one whose shorter side is below the resolution, unless `enlarge` says that it is taken. Raises
    `ValueError` naming an image that can't be decoded: when its head is read, or its pixels.
    """
    path = raw.path
    if not pairs:
        raise ValueError(f"{path}: no image with a caption in it")
    if spec.clean_captions:
        pairs = [replace(pair, caption=clean_caption(pair.caption)) for pair in pairs]
    if broken := next((pair.name for pair in pairs if "\n" in pair.name), None):
        raise ValueError(f"{path}: {broken!r} has a line break in its name: rename it")
    small, converted = too_small(spec, raw, pairs), Counter()
    left_out = files_left_out + Counter({
        "images without a caption": sum(not has_caption(pair) for pair in pairs),
        f"smaller than {spec.resolution} pixels": len(small)})
    rows = [row for row, pair in enumerate(pairs) if has_caption(pair) and row not in small]
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


def has_caption(pair: Pair) -> bool:
    """Whether there is more than white space to a caption."""
    return bool(pair.caption.strip())


def too_small(spec: DatasetSpec, raw: Raw, pairs: Sequence[Pair]) -> set[int]:
    """The places of the pairs that are left out for their size, by the heads of their images.

    An attempt that is stopped or killed leaves them to the next one, but for those of the block at work.
    """
    progress, found = Progress("look", len(pairs)), set()
    for first in range(0, len(pairs), TOGETHER):
        places = range(first, min(first + TOGETHER, len(pairs)))
        block = partial(small_among, spec, raw.path, pairs, places, progress)
        found.update(raw.once(f"small-{first}", block, DECODERS))
        if progress.done < places.stop:  # an earlier attempt has looked
            progress.skip_to(places.stop)
    return found


def small_among(spec: DatasetSpec, path: Path, pairs: Sequence[Pair], places: range,
                progress: Progress) -> list[int]:
    """Those of some places whose images are left out for their size. Raises as `naming`."""
    small = []
    for place in places:
        pair = pairs[place]
        if has_caption(pair):
            size = naming(path, pair, lambda pair=pair: opened(pair.content()).size)
            if min(size) < spec.resolution and not spec.enlarge:
                small.append(place)
        progress.update(place + 1)
    return small


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
