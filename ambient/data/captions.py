r"""Captions from the web, cleaned as those of CC12M were for the text-to-image experiments.

What was no description of the image goes: addresses, codes, file names, shop phrases, markup. The whole
cleaning is applied twice, since one removal may lay bare another. A step is a pattern with what takes its
place. Steps and their order are those of the public recipe, so that captions come out as the published
networks saw them. That wrongly decoded text is repaired late, when it is lower-case, leaves some of it.
"""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from urllib.parse import unquote_plus

import ftfy

DOMAINS = "com|co|ru|net|org|edu|gov|it"
FORMATS = "png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4"
CJK = "\u31c0-\u31ef\u31f0-\u31ff\u3200-\u32ff\u3300-\u33ff\u3400-\u4dbf\u4dc0-\u4dff\u4e00-\u9fff"
DASHES = ("-\u058a\u05be\u1400\u1806\u2010-\u2015\u2e17\u2e1a\u2e3a\u2e3b\u2e40\u301c\u3030\u30a0\ufe31"
          "\ufe32\ufe58\ufe63\uff0d")
HIDDEN = ("script", "style", "template", "rt", "rp")  # programs, and the readings beside East Asian words
SEPARATORS = 3  # so many dashes and underscores stay; more of them stand for spaces

Steps = list[tuple[re.Pattern[str], str]]


def steps(*pairs: tuple[str, str]) -> Steps:
    """Patterns with what takes their place."""
    return [(re.compile(pattern), replacement) for pattern, replacement in pairs]


ADDRESSES = steps(
    (r"<person>", "person"),
    *((rf"\b(?:{begin}:(?:/{{1,3}}|[a-z0-9%])|[a-z0-9.-]+\.(?:{DOMAINS})[\w/-]*\b/?(?!@))", "")
      for begin in ("https?", "www")))
SYMBOLS = steps(
    (r"@\w+", ""),
    (f"[{CJK}]+", ""),
    (f"[{DASHES}]+", "-"),
    ("[`\u00b4\u00ab\u00bb\u201c\u201d\u00a8]", '"'),
    ("[\u2018\u2019]", "'"),
    (r"&quot;?|&amp", ""),
    (r"\d{1,3}(?:\.\d{1,3}){3}", " "),  # of machines
    (r"\d:\d\d\s+$", ""),
    (r"\\n", " "),
    (r"#\d{1,3}\b|#\d{5,}\b|\b\d{6,}\b", ""),
    (rf"(?<!\S)\S+\.(?:{FORMATS})", ""),  # a word is tried from its start alone, once
    (r"[\"']{2,}", '"'),
    (r"\.{2,}", " "),
    (r"[#\u00ae\u2022\u00a9\u2122&@\u00b7\u00ba\u00bd\u00be\u00bf\u00a1\u00a7~()\[\]{}|\\/*]+", " "),
    (r"\s+\.\s+", " "))
PHRASES = steps(
    # Capitals come from entities, which are repaired after all else is lower-case.
    (r"\b[a-zA-Z]{1,3}\d{3,15}\b", ""),  # jc6640
    (r"\b[a-zA-Z]+\d+[a-zA-Z]+\b|\b\d+[a-zA-Z]+\d+\b", ""),  # ab12cd, 66ab12
    (r"(?:worldwide\s+)?(?:free\s+)?shipping", ""),
    (r"(?:free\s)?download(?:\sfree)?", ""),
    (r"\bclick\b\s(?:for|on)\s\w+", ""),
    (rf"\b(?:{FORMATS})(?:\simages?)?", ""),
    (r"\bpage\s+\d+\b", ""),
    (r"\b\d*(?:[a-zA-Z]+\d+){2,}[a-zA-Z]*\b", " "),  # a1b2, 1st2nd3rd
    (r"\b\d+\.?\d*[x\u0445\u00d7]\d+\.?\d*\b", ""),  # 12x34
    (r"\b\s+:\s+", ": "),
    (r"(\D[,./])\b", r"\1 "),
    (r"\s+", " "))
ENDS = steps(
    (r"^([\"'])(.+)[\"']$", r"\2"),
    (r"^['_,:;-]", ""),
    (r"['_,:+-]$", ""),
    (r"^\.\S+$", ""))


class Visible(HTMLParser):
    """The text of a piece of markup, without what is inside of `HIDDEN`."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)  # the name of an entity is the whole word: &quota is none
        self.parts: list[str] = []
        self.hidden = 0

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.hidden += tag in HIDDEN

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= tag in HIDDEN and self.hidden > 0

    def handle_entityref(self, name: str) -> None:
        character = html.unescape(f"&{name};")
        self.handle_data(f"&{name}" if character.endswith(";") else character)

    def handle_charref(self, name: str) -> None:
        self.handle_data(html.unescape(f"&#{name};"))

    def unknown_decl(self, data: str) -> None:
        if data.lower().startswith("cdata["):
            self.handle_data(data[len("cdata["):])

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.parts.append(data)


def visible(text: str) -> str:
    """What a browser would show of a text: tags go, entities become characters. What is no markup stays."""
    parser = Visible()
    try:
        parser.feed(text)
        parser.close()
    except AssertionError:  # of html.parser, for a declaration that there is not, such as <![foo]>
        return text
    return "".join(parser.parts)


def applied(text: str, pairs: Steps) -> str:
    """The text after all steps, one after the other."""
    for pattern, replacement in pairs:
        text = pattern.sub(replacement, text)
    return text


def cleaned_once(text: str) -> str:
    """One round of the cleaning."""
    text = applied(unquote_plus(text).strip().lower(), ADDRESSES)
    text = applied(visible(text), SYMBOLS)
    if len(re.findall(r"[-_]", text)) > SEPARATORS:
        text = re.sub(r"[-_]", " ", text)
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return applied(applied(text, PHRASES), ENDS).strip()


def clean_caption(text: str) -> str:
    """A caption from the web without what does not describe its image, lower-case; it may be empty.

    For a description that a person or a model wrote for its image there is nothing to clean.
    """
    return cleaned_once(cleaned_once(text))
