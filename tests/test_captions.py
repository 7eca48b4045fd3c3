"""Cleaning of captions from the web: cases of the reference, and what each step is for."""

import pytest
from t2i_vectors import needs_reference, read

from ambient.data.captions import clean_caption, visible


@needs_reference
def test_captions_are_cleaned_as_in_the_reference():
    cases = read("captions")["cases"]
    assert [clean_caption(case["in"]) for case in cases] == [case["out"] for case in cases]
    assert len(cases) >= 32


@pytest.mark.parametrize(("text", "cleaned"), [
    ("  A RED  Bicycle ", "a red bicycle"), ("a%20dog+runs", "a dog runs"), ("<PERSON> waves",
    "person waves"), ("see https://www.example.com/a/b-c now", "see now"), ("by @some_one here", "by here"),
    ("a <b>bold</b> hill<script>alert()</script>", "a bold hill"),
    ("<ruby>hill<rp>(</rp><rt>reading</rt><rp>)</rp></ruby> at night", "hill at night"),
    ("\u6771\u4eac at night", "at night"),
    ("fog \u2014 dawn", "fog - dawn"), ("\u201ctwo\u201d words", '"two" words'),
    ("192.168.1.1 is it", "is it"), ("#12 and #12345 and 1234567", "and and"), ("dsc_0001.jpg", ""),
    ("no... way", "no way"), ("a (b) [c] {d} | e", "a b c d e"), ("a-b-c-d-e", "a b c d e"),
    ("a-b_c", "a-b_c"), ("\u00e2\u20ac\u0153dog", '"dog'), ("caf&eacute; &amp; tea", "caf\u00e9 tea"),
    ("lamp jc6640", "lamp"), ("free shipping on hats", "on hats"), ("click for more", ""),
    ("page 7 left", "left"), ("rug 12x34", "rug"), ("sent 3:05 @me", "sent"), ("at 3:05", "at 3:05"),
    ("a,b", "a, b"), ("a -- b", "a - b"), ("x\u00ady", "x\u00ady"), ("h2o2 a1b2c 1st2nd3rd 3d", "3d"),
    ("x-a1b2-y", "x- -y"), ("shipping4x6in", "4x6in"), ("x http:y www:z", "x"), ("ahttp://b", "ahttp: b"),
    ("4x-http://x.com/a?b", "4x-?b"), ("x foo.co.uk", "x uk"), ("www.foo.comx", ""), ("me&quot", "me"),
    ("a&quota", "aa"), ("&copyx &copy;", "copyx"), ("it' : b : c", "it' : b: c"),
    ("12\u044534.a", "a"), ("<![CDATA[x]]> y", "x y"), ("<![foo]> x", "x"),
    ("<b> \u201cred\u201d #1 -a", '"red" -a'),
    ('"Red dress" - #1', "red dress"), ("( .net", ""), ("&#74;c6640 - red dress", "red dress"),
    ("&#65;1b2 tree", "tree"), ("66&#65;12 tree", "tree"),
    ("a-b-c-d", "a-b-c-d"), ("hats worldwide free shipping", "hats"), (r"a\nb", "a b"),
    ("'quoted'", "quoted"), (":colon+", "colon"), (".dotword", ""), ("", "")])
def test_steps(text, cleaned):
    assert clean_caption(text) == cleaned


def test_what_is_clean_stays():
    for text in ("a photo of three dogs left of a blue boat", "a street in paris, 1999"):
        assert clean_caption(text) == text
    assert visible("a < b & c") == "a < b & c"
