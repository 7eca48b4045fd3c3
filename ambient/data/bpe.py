"""CLIP's tokenizer: byte-pair encoding of lower-cased words. No torch.

The list of merges is local data: `bpe_simple_vocab_16e6.txt.gz` as OpenAI published it, or the `merges.txt`
of a checkpoint's folder, a pair a line behind one line of comment. The vocabulary follows from it: 256 bytes,
the same at the end of a word, the merged pairs in their order, and two tokens that begin and end a text.

Source: Radford et al. 2021 (arXiv:2103.00020); Sennrich et al. 2016 (arXiv:1508.07909).
"""

from __future__ import annotations

import gzip
import html
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import ftfy
import numpy as np

VOCABULARY = 49408
SPECIAL = ("<start_of_text>", "<end_of_text>")
CONTRACTED = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
LONG_S = "ſ"  # lower case already, but an s to CLIP's pattern of words, which ignores case
END = "</w>"  # what the last symbol of a word has behind it
MERGES = VOCABULARY - 2 * 256 - len(SPECIAL)


def byte_symbols() -> list[str]:
    """A character for each byte: printable ones of Latin-1 are themselves, others follow from U+0100 on."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return [chr(byte) if byte in shown else chr(256 + hidden.index(byte)) for byte in range(256)]


def in_order(symbols: Sequence[str]) -> list[str]:
    """The symbols of bytes in the vocabulary's order: those that are themselves first."""
    return [one for one in symbols if ord(one) < 256] + [one for one in symbols if ord(one) >= 256]


def read_merges(path: Path) -> str:
    """The merges of a file, a pair a line. Raises `ValueError` naming one that does not have them."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        lines = content.decode().splitlines()[1:MERGES + 1]
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: no list of merges ({error})") from None
    if len(lines) < MERGES:
        raise ValueError(f"{path}: has {len(lines)} lines of pairs, allowed: {MERGES} behind the first line")
    wrong = [line for line in lines if len(line.split()) != 2]
    if wrong:
        raise ValueError(f"{path}: has the line {wrong[0][:40]!r}, allowed: a pair on each of {MERGES} lines")
    if twice := [pair for pair, count in Counter(lines).items() if count > 1]:
        raise ValueError(f"{path}: has the pair {twice[0][:40]!r} twice, allowed: {MERGES} different ones")
    return "\n".join(lines)


def words(text: str) -> Iterator[str]:
    """The words of a plain text: special tokens, contractions, letters in a row, each digit, other marks."""
    place, folded = 0, text.replace(LONG_S, "s")
    while place < len(text):
        fixed = next((one for one in (*SPECIAL, *CONTRACTED) if folded.startswith(one, place)), None)
        kind = kind_of(text[place])
        end = place + (len(fixed) if fixed else 1)
        while not fixed and kind in "LM" and end < len(text) and kind_of(text[end]) == kind:
            end += 1
        if kind != " ":
            yield text[place:end]
        place = end


def kind_of(character: str) -> str:
    """L: a letter; N: a number; a space; M: any other mark."""
    if character.isspace():
        return " "
    category = unicodedata.category(character)[0]
    return category if category in "LN" else "M"


def plain(text: str) -> str:
    """A text as it is encoded: repaired, HTML's entities resolved, lower case, single spaces."""
    repaired = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(repaired.split()).lower()


class Tokenizer:
    """Texts to token ids, by merges (`read_merges`)."""

    def __init__(self, merges: str) -> None:
        pairs = [tuple(line.split()) for line in merges.split("\n")]
        self.symbols = byte_symbols()
        ordered = in_order(self.symbols)
        vocabulary = [*ordered, *(one + END for one in ordered), *map("".join, pairs), *SPECIAL]
        self.ids = {one: i for i, one in enumerate(vocabulary)}
        self.ranks = {pair: rank for rank, pair in enumerate(pairs)}
        self.start, self.end = (self.ids[one] for one in SPECIAL)
        self.of_word = lru_cache(100_000)(self.word)

    def word(self, word: str) -> list[int]:
        """The ids of one word: neighbours are merged, the pair that stands first in the list first."""
        if word in SPECIAL:
            return [self.ids[word]]
        parts = [self.symbols[byte] for byte in word.encode()]
        parts[-1] += END
        while len(parts) > 1:
            pairs = zip(parts, parts[1:], strict=False)
            pair = min(pairs, key=lambda one: self.ranks.get(one, len(self.ranks)))
            if pair not in self.ranks:
                break
            merged, place = [], 0
            while place < len(parts):
                both = tuple(parts[place:place + 2]) == pair
                merged.append("".join(pair) if both else parts[place])
                place += 1 + both
            parts = merged
        return [self.ids[part] for part in parts]

    def __call__(self, texts: Sequence[str], length: int) -> np.ndarray:
        """Ids int64 (N, length), 0 behind the end. A longer text is cut, and ends with the end token."""
        found = np.zeros((len(texts), length), np.int64)
        for row, text in zip(found, texts, strict=True):
            ids = [self.start, *(one for word in words(plain(text)) for one in self.of_word(word)), self.end]
            row[:len(ids)] = ids[:length]
            row[-1] = self.end if len(ids) > length else row[-1]
        return found
