"""What `ambient new --captions` says of captions. It reads and checks them: nothing learns from them yet."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ambient.data import caption_files
from ambient.data.caption_files import Captions
from ambient.data.image_files import Archive, Folder
from ambient.data.photos import NO_IMAGES, Photos
from ambient.data.raw import Raw

TOKENS = 77  # that CLIP's text encoders take, with one of the begin and one of the end


def read(images: Path, photos: Photos, table: Path | None) -> Captions:
    """The captions of a folder's images: from a table, or from what lies among them."""
    if table is not None:
        return caption_files.from_table(table, photos.names)
    raw = Raw(images)
    return caption_files.beside(Folder(raw) if raw.is_folder else Archive(raw), photos.names, photos.unread)


def without_files(photos: Photos, captions: Captions) -> Photos:
    """The same images, where files of captions do not count as left out."""
    rest = photos.left_out.copy()
    rest[NO_IMAGES] -= len(captions.files)
    examples = {what: name for what, name in photos.examples.items() if name not in captions.files}
    return replace(photos, left_out=+rest, examples=examples)


def too_long(text: str) -> bool:
    """Whether a caption surely has more tokens than there is room for.

    Each word and each punctuation mark is a token or several. So this finds none too many, and misses those
    whose words are rare.
    """
    return len(re.findall(r"\w+|[^\w\s]", text)) > TOKENS - 2


def counted(captions: Captions, photos: Photos) -> tuple[dict[str, str], list[str]]:
    """(caption of each image that has one, names of the images that have none)."""
    texts, without = {}, []
    for names in photos.names_of_each:
        named = next((name for name in names if name in captions.texts), None)
        if named is None:
            without.append(names[0])
        else:
            texts[names[0]] = captions.texts[named]
    return texts, without


def described(captions: Captions, photos: Photos) -> Iterator[str]:
    """What was found, line by line."""
    texts, without = counted(captions, photos)
    empty = [name for name, text in texts.items() if not text]
    long = [name for name, text in texts.items() if too_long(text)]
    said = {text for text in texts.values() if text}
    yield (f"  captions ({captions.by}): {len(texts) - len(empty):,} of {len(photos.rows):,} images have "
           f"one, {len(said):,} distinct")
    for names, what in (
            (without, "images have none"), (empty, "are empty"),
            (long, f"have more than {TOKENS - 2} words and marks, so more than the {TOKENS} tokens that "
             "CLIP's text encoders take"),
            (captions.undecoded, "are no text in UTF-8: save them as such"),
            (captions.strangers, "are of no image of the folder")):
        if names:
            yield f"    {len(names):>7,} {what} (such as {names[0]})"
    yield ("    nothing that `new` writes learns from captions yet: they stay where they are"
           + (", pinned with the images by the folder's SHA-256" if captions.files else ""))
