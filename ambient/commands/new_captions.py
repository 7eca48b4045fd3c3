"""What `ambient new --captions` says of captions. It reads and checks them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ambient.data.caption_files import Captions, of_each
from ambient.data.photos import Photos
from ambient.storage.text import printable

TOKENS = 77  # that CLIP's text encoders take, with one of the begin and one of the end


def too_long(text: str) -> bool:
    """Whether a caption surely has more tokens than there is room for.

    Each word and each punctuation mark is a token or several. So this finds none too many, and misses those
    whose words are rare.
    """
    return len(re.findall(r"\w+|[^\w\s]", text)) > TOKENS - 2


def described(captions: Captions, photos: Photos) -> Iterator[str]:
    """What was found, line by line."""
    every = dict(zip((names[0] for names in photos.names_of_each), of_each(photos, captions), strict=True))
    texts = {name: text for name, text in every.items() if text is not None}
    without = [name for name, text in every.items() if text is None]
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
            yield printable(f"    {len(names):>7,} {what} (such as {names[0]})")
    pinned = ", pinned with the images by the folder's SHA-256" if captions.files else ""
    yield (f"    what `new` writes does not learn from captions: they stay where they are{pinned}. The scale "
           "captioned does (docs/own-images.md)")
