"""Manifests that name a replaced one are written again. An edited one is not taken for replaced."""

import os

import numpy as np
import pytest
from artefacts import made

from ambient.audit.chain import Audit
from ambient.provenance import manifest, merkle
from ambient.provenance.pruned import RECORDED, pruned_path, pruned_record
from ambient.provenance.renewal import Renewals
from ambient.storage.files import digest, read_json, write_arrays, write_json

RAW = {"name": "raw", "file": "raw.zip", "origin": "test", "size": 3, "sha256": "f" * 64}


def prepared(path, pin):
    return made(path, "ambient.prepare", spec={"sha256": pin}, external=[RAW],
                facts={"raw_checksum_verified": pin is not None})


@pytest.fixture
def chain(tmp_path, monkeypatch):
    """raw -> a -> b -> c, of which c keeps a root; nobody knows what raw data should be."""
    monkeypatch.chdir(tmp_path)
    a = prepared(tmp_path / "r/a.bin", None)
    b = made(tmp_path / "r/x/b.bin", inputs=[a])
    c = made(tmp_path / "r/c.bin", inputs=[b])
    edit(c, root=merkle.of_inputs(c, [b]))
    return tuple(path.relative_to(tmp_path) for path in (a, b, c))


def edit(path, **changes):
    """Edit a manifest as someone who knows how, with every digest of its own made to fit."""
    found = {k: v for k, v in read_json(manifest.path_for(path)).items() if k != "seal"} | changes
    write_json(manifest.path_for(path), found | {"seal": digest(found)})


def judged(path):
    """The level of an artefact, and (file, word) of each problem of it and what it is made from."""
    audit = Audit(path)
    level = audit.artefact(path).level
    return level, {(p.path.name, p.word) for r in audit.results.values() for p in r.problems}


def pinned(a):
    """Make `a` again, as a job does whose raw data are pinned by now."""
    renewals = Renewals("notes")
    renewals.begin(a)
    prepared(a, "f" * 64)
    renewals.made(a)
    return renewals


def test_what_is_kept_names_the_manifest_that_was_made_anew(chain):
    a, b, c = chain
    assert judged(c) == (1, {("a.bin", "unpinned")})
    before = [read_json(manifest.path_for(path)) for path in (b, c)]
    pinned(a)
    assert judged(c) == (1, {("a.bin.manifest.json", "rewritten")})
    assert Renewals("notes").renew(b)  # each in a run of its own
    assert Renewals("notes").renew(c)
    assert judged(c) == (2, set())
    after = [read_json(manifest.path_for(path)) for path in (b, c)]
    for old, new, root in zip(before, after, (set(), {"root"}), strict=True):
        assert {key for key in old if old[key] != new.get(key)} == {"inputs", "seal"} | root
        assert old.keys() == new.keys()
        for found in (old, new):
            assert len(found["inputs"]["data"][0].pop("seal")) == 64
        assert old["inputs"] == new["inputs"]
    assert not Renewals("notes").renew(b) and not Renewals("notes").renew(c)


def test_the_job_of_a_run_that_was_killed_counts(chain):
    a, b, c = chain
    Renewals("notes").begin(a)
    prepared(a, "f" * 64)
    later = Renewals("notes")
    later.made(a)
    assert later.renew(b) and later.renew(c) and judged(c) == (2, set())


def test_a_manifest_that_was_deleted_is_replaced_too(chain):
    a, b, c = chain
    manifest.path_for(a).unlink()
    renewals = pinned(a)
    assert renewals.renew(b) and renewals.renew(c) and judged(c) == (2, set())


def test_an_edited_manifest_is_not_taken_for_one_that_was_replaced(chain):
    a, b, c = chain
    edit(a, facts={"raw_checksum_verified": True})  # no run was about to make it
    assert not Renewals("notes").renew(b)
    renewals = pinned(a)
    edit(a, facts={"raw_checksum_verified": True, "images": 7})  # after its job
    assert not renewals.renew(b)
    assert judged(c) == (1, {("a.bin.manifest.json", "rewritten")})


def test_what_is_renewed_does_not_hide_that_it_was_edited_before(chain):
    a, b, c = chain
    edit(b, facts={"images": 7})
    renewals = Renewals("notes")
    renewals.begin(b)  # as of all that follows
    renewals = pinned(a)
    renewals.same(b)
    assert renewals.renew(b) and not renewals.renew(c)
    assert ("b.bin.manifest.json", "rewritten") in judged(c)[1]
    renewals.made(b)  # it is not begun any more
    assert not renewals.renew(c)


def test_other_bytes_are_stale_and_stay_so(chain):
    a, b, c = chain
    a.write_text("other images\n")
    assert not pinned(a).renew(b)
    assert judged(c) == (1, {("b.bin", "stale")})


def test_the_record_of_a_removal_follows_its_manifest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    a = prepared(tmp_path / "r/a.bin", None).relative_to(tmp_path)
    write_arrays("r/w.safetensors", {"w": np.zeros(2)})
    w = made(tmp_path / "r/w.safetensors", "ambient.train", inputs=[a]).relative_to(tmp_path)
    found = manifest.read(manifest.path_for(w))
    write_json(pruned_path(w), {**{key: found[key] for key in RECORDED}, "pruned": "today"})
    os.unlink(w)
    assert pinned(a).renew(w)
    assert pruned_record(w, manifest.read(manifest.path_for(w)))
    assert read_json(pruned_path(w))["pruned"] == "today"


@pytest.mark.parametrize("line", ["{", "[]", "[[]]", '["made", "r/a.bin"]', '["made", null, "0"]', '"made"',
                                  '["made", "r/a.bin", 3]', "[" * 10**5, '["other", "r/a.bin", "0"]'])
def test_a_line_that_is_no_note_is_passed_over(chain, line):
    a, b, c = chain
    pinned(a)
    with open("notes", "a") as file:
        file.write(f"{line}\n")
    assert Renewals("notes").renew(b)


def test_a_note_after_one_that_was_cut_off_is_read(chain):
    a, b, _ = chain
    pinned(a)
    with open("notes", "a") as file:
        file.write('["begun","r/x/b')  # a run was killed in the middle of its line
    renewals = Renewals("notes")
    renewals.begin(b)
    assert Renewals("notes").begun.keys() == renewals.begun.keys()
    assert len(renewals.begun) == 1 and Renewals("notes").renew(b)
