"""Code by its parts: an entry of a table counts for the jobs that use it, and for no others."""

import re
from pathlib import Path

import pytest

from ambient.provenance import parts, source_code

MODULE = """
import math
from scipy import ndimage

LIMIT = 3


def need(value):
    return value < LIMIT


def blur(image):
    need(image)
    return ndimage.blur(image)


def noise(image):
    return math.exp(image)


OPS = {f.__name__: f for f in (blur, noise)}


def apply(name, image):
    return OPS[name](image)
"""


def digest(text, *names):
    return parts.sha256("x.py:" + ",".join(names), text.encode())


def test_both_forms_of_a_table_are_one():
    listed = MODULE.replace("{f.__name__: f for f in (blur, noise)}", '{"blur": blur, "noise": noise}')
    assert parts.Source(MODULE).tables == parts.Source(listed).tables == {
        "OPS": {"blur": "blur", "noise": "noise"}}
    assert parts.Source(MODULE.replace("(blur, noise)", "(blur, 3)")).tables == {}


def test_a_part_is_what_its_names_reach_and_nothing_else():
    written = [ast_name(node) for node in parts.Source(MODULE).reached(["apply", "blur"])]
    assert written == ["ndimage", "LIMIT", "need", "blur", "apply"]


def ast_name(node):
    return next(iter(parts.defined(node)))


@pytest.mark.parametrize(("old", "new", "changes"), [
    ("OPS = {f.__name__: f for f in (blur, noise)}",
     "def sepia(x):\n    return x\n\n\nOPS = {f.__name__: f for f in (blur, noise, sepia)}", set()),
    ("LIMIT = 3", "LIMIT = 4", {"blur"}), ("math.exp", "math.log", {"noise"}),
    ("OPS[name](image)", "OPS[name](-image)", {"blur", "noise"}),
    ("import math", "# why\nimport math", set())])
def test_an_edit_counts_where_it_is_reached(old, new, changes):
    edited = MODULE.replace(old, new)
    assert edited != MODULE
    ops = {op for op in ("blur", "noise") if digest(MODULE, op, "apply") != digest(edited, op, "apply")}
    assert ops == changes
    assert digest(edited.replace("\n", "\r\n"), "blur") == digest(edited, "blur")
    assert digest(MODULE, "gone") != digest(MODULE, "blur")
    assert parts.sha256("x.py:", MODULE.encode()) == parts.sha256("x.py:", edited.encode())


def test_a_file_without_parts_counts_whole():
    name = "ambient/storage/files.py"
    content = Path(source_code.ROOT, name).read_bytes()
    assert len({parts.sha256(name, content + more) for more in (b"", b"# edited\n")}) == 2


@pytest.mark.parametrize(("stage", "spec", "entry"), [
    ("detector", {"kind": "inception"}, "ambient/evaluation/detectors/inception.py"),
    ("evaluate", {"detector": {"kind": "classifier"}}, "ambient/evaluation/detectors/classifier.py"),
    ("galleries", {"kind": "batch"}, "ambient/report/figures/batch.py"),
    ("crops_figures", {"kind": "donut"}, "ambient/report/figures/donut.py"),
    ("classifier", {"nuisances": ["negate"]}, "ambient/annotation/nuisances.py:negate,numbers,varied"),
    ("annotate", {"method": "per_sample", "protocol": "dense"},
     "ambient/annotation/trajectories.py:CHUNK,Dense,first_crossing")])
def test_every_table_is_told_by_the_entries_in_use(stage, spec, entry):
    assert entry in source_code.digests(f"ambient.{stage}", spec)


def test_a_job_names_the_entries_that_its_specification_picks():
    blur = source_code.digests("ambient.corrupt", {"op": "gaussian_blur", "params": {"sigma_px": 1.0}})
    jpeg = source_code.digests("ambient.corrupt", {"op": "jpeg", "params": {"quality": 3}})
    differing = {name for name in blur.keys() ^ jpeg.keys()}
    assert {re.sub(":.*", "", name) for name in differing} == {"ambient/data/corruptions.py"}
    assert "ambient/data/corruptions.py:corrupt,facts,gaussian_blur,validate" in blur
    assert "ambient/data/corruptions.py:corrupt,facts,jpeg,validate" in jpeg
    # Without a specification every entry counts.
    assert "ambient/data/corruptions.py" in source_code.digests("ambient.corrupt")
