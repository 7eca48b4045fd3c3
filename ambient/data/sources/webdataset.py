"""Source `webdataset`: tars in which the files of a sample follow each other and share a name.

`000123.jpg` and `000123.txt` are a sample: its key is the name to the first dot of its last part. The caption
is the text file, or the entry `caption`, `text` or `prompt` of a JSON file. A sample has one image. Hidden
files, such as macOS puts into tars, are left out and counted.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from ambient.data.sources import images
from ambient.specs import DatasetSpec
from ambient.specs.strict import later

if TYPE_CHECKING:
    from ambient.data.pairs import Pair
    from ambient.data.raw import Raw
    from ambient.data.readers import Reading
    from ambient.data.tars import Tar

IMAGES = ("jpg", "jpeg", "png", "webp")


@dataclass(frozen=True, kw_only=True)
class Spec(DatasetSpec):
    """`path` is a tar or a folder of tars, read in the order of their names. `num_images` says about how many
    samples are taken, for the estimate of costs alone."""

    HAD_IN_WORDS: ClassVar[str] = "a tar or a folder of tars"
    CONVERTS: ClassVar[bool] = True
    HAS_CLASSES: ClassVar[bool] = False
    captioned: ClassVar[bool] = True
    UNREAD: ClassVar[tuple[str, ...]] = ("labels",)

    crop: Literal["centre", "pad", "adm", "bicubic"] = "adm"  #: how squares are cut (`ambient.data.squares`)
    #: images whose shorter side is below the resolution: enlarged and taken, or left out and counted
    enlarge: bool = later(False)

    def portable(self) -> Spec:
        """Without local paths and `num_images`, which say nothing of the prepared images."""
        return dataclasses.replace(super().portable(), num_images=None)


locate = images.locate


def read(spec: Spec, raw: Raw, rule: Path | None = None) -> Reading:
    """The samples of all tars. Raises `ValueError` naming one that lacks its image or its caption."""
    from ambient.data.pairs import named, reading
    from ambient.data.tars import Tar

    left_out = Counter()
    shards = named(raw, ".tar", "a tar", left_out)
    pairs = [pair for name in shards for pair in samples(name, Tar(raw.in_parts(name)), left_out)]
    return reading(spec, spec.crop, pairs, raw, "the tars", left_out)


def samples(shard: str, tar: Tar, left_out: Counter[str]) -> list[Pair]:
    """The samples of one tar, in its order. Hidden files are counted in `left_out`."""
    from ambient.data.pairs import Pair
    from ambient.data.tars import content

    parts: dict[str, dict[str, str]] = {}
    for name in tar.sizes:
        if any(part.startswith((".", "__MACOSX")) for part in name.split("/")):
            left_out["hidden files"] += 1
            continue
        folder, _, last = name.rpartition("/")
        key, _, suffix = last.partition(".")
        files = parts.setdefault(f"{folder}/{key}".lstrip("/"), {})
        if (other := files.setdefault(suffix.lower(), name)) != name:
            raise ValueError(f"{tar.path}: {other} and {name} differ in case alone: rename one")
    found = []
    for key, files in parts.items():
        images = [files[suffix] for suffix in IMAGES if suffix in files]
        caption = caption_of(tar, key, files)
        if len(images) != 1:
            has = (f"the images {' and '.join(images)}" if images
                   else f"only {', '.join(sorted(files.values()))}")
            raise ValueError(f"{tar.path}: {key} has {has}, allowed: one image ({', '.join(IMAGES)}), whose "
                             "ending begins at the first dot of its name: take out what is too much, or "
                             "rename it")
        image = partial(content, tar.path, images[0], *tar.places[images[0]])
        found.append(Pair(f"{shard}: {key}", caption, image))
    return found


def caption_of(tar: Tar, key: str, files: dict[str, str]) -> str:
    """The caption of a sample; empty where it has none. Raises `ValueError` naming what is no text."""
    from ambient.data.caption_files import TEXTS, is_text
    from ambient.data.selection import decoded

    try:
        if "txt" in files:
            if (text := decoded(tar.read(files["txt"]))) is None:
                raise ValueError
            return text
        if "json" not in files:
            return ""
        about = json.loads(tar.read(files["json"]))
        given = [about[key] for key in TEXTS if about.get(key) is not None]
        texts = [one for one in given if isinstance(one, str)]
        if given and not (texts and is_text(texts[0])):
            raise ValueError
        return texts[0] if texts else ""
    except (UnicodeDecodeError, ValueError, AttributeError, RecursionError):
        raise ValueError(f"{tar.path}: {key}: its caption is no text in UTF-8, or no JSON object of one: "
                         "take the sample out, or repair it") from None
