"""Manifests are read as they were written, and what many have in common is kept once."""

import pytest
from artefacts import made

from ambient.audit.chain import Audit
from ambient.audit.code import Code
from ambient.provenance import manifest, reading
from ambient.storage.files import read_json


def test_what_many_manifests_have_in_common_is_read_judged_and_kept_once(tmp_path, monkeypatch):
    raw = {"name": "raw", "file": "raw.zip", "origin": "test", "size": 3, "sha256": "f" * 64}
    first = made(tmp_path / "r/0.bin", "ambient.prepare", spec={"sha256": "f" * 64}, external=[raw])
    many = [made(tmp_path / f"r/{i}.bin", inputs=[first], spec={"seed": i, "network": {"width": 1}})
            for i in range(1, 5)]
    judged, judge = [], Code.verdict
    monkeypatch.setattr(Code, "verdict", lambda self, found: judged.append(found) or judge(self, found))
    audit = Audit(first.parent)
    results = [audit.artefact(path) for path in many]
    one, *others = (result.manifest for result in results)
    for other in others:
        assert other["code"] is one["code"] and other["environment"] is one["environment"]
        assert other["spec"] != one["spec"] and other["spec"]["network"] is one["spec"]["network"]
        assert other["inputs"]["data"][0]["sha256"] is one["inputs"]["data"][0]["sha256"]
    assert [result.level for result in results] == [2] * 4 and len(judged) == 2  # of two stages
    for path, result in zip(many, results, strict=True):  # and it says what the file says
        found = manifest.read(manifest.path_for(path))
        assert found == read_json(manifest.path_for(path)) and found.items() > result.manifest.items()


@pytest.mark.parametrize("edit", [
    lambda text: text.replace('"seed": 3', '"seed": 3.0'), lambda text: text.replace("\n  ", "\n   ", 1),
    lambda text: text.replace('"stage"', '"Stage"'), lambda text: text.replace(',\n "', ', "', 1),
    lambda text: text.replace('  "seed": 3\n', '  "seed": 3,\n  "seed": 3\n'), lambda text: text[:-1],
    lambda text: "{" + ",".join(sorted(text[1:-2].split(",\n"), reverse=True)) + "}\n"])
def test_a_section_that_is_kept_lends_nothing_to_one_that_is_not_equal(tmp_path, edit):
    record = manifest.path_for(made(tmp_path / "r/a.bin", spec={"seed": 3}))
    text = record.read_text()
    assert manifest.read(record)["spec"] == {"seed": 3} and edit(text) != text
    record.write_text(edit(text))
    with pytest.raises(ValueError, match="a.bin.manifest.json: "):
        manifest.read(record)


@pytest.mark.parametrize("value", [
    {}, [], {"a": {}, "b": []},
    {"z": [1, -2.5, 1e-9, 1e300, 2**62, True, False, None, "t"], "a": {"b": [[[]]]}},
    {"\u00e9 \n\"\\\u2028": ["\ud800", "\x00", "/"], "": {"A": 0, "a": 1, "B": [{"x": 0.1}]}}])
def test_lines_are_laid_out_as_json_does(value):
    for one in (value, {"section": value}):
        assert reading.laid_out(one) + "\n" == reading.json_text(one)
