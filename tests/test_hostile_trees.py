"""Trees with things in them that are no files: named and passed over by every command that walks a tree."""

import json
import os
import shutil
import socket

import pytest
from results_tree import audit, problems, refit

from ambient.audit import cli, compare, crate, prune
from ambient.audit.sign import SIGNATURE
from ambient.cluster import efficiency
from ambient.provenance import manifest
from ambient.storage import regular
from ambient.storage.files import read_json, write_json

RUN = "runs/ambient/seed-0"


def make(path, kind):
    """Put a thing of a kind into a place."""
    if path.exists():
        path.unlink()
    if kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "a socket":
        here = os.getcwd()
        os.chdir(path.parent)  # the address of a socket has 108 characters at most
        try:
            socket.socket(socket.AF_UNIX).bind(path.name)
        finally:
            os.chdir(here)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    elif kind == "a folder":
        path.mkdir()
    elif kind == "a link in a circle":
        path.symlink_to(path)


KINDS = ("a FIFO", "a socket", "a device", "a folder", "a link in a circle")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_regular_file_has_a_word_and_is_not_opened(tmp_path, kind):
    path = tmp_path / "x"
    make(path, kind)
    assert regular.kind(path) == kind
    with pytest.raises(ValueError, match=f"{kind}, not a regular file"):
        regular.read(path)
    assert regular.kind(tmp_path / "gone") == regular.kind(tmp_path / ("n" * 300)) == regular.MISSING
    with pytest.raises(FileNotFoundError):
        regular.read(tmp_path / "gone")


def test_a_file_is_read_up_to_a_limit_and_a_walk_names_links(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "there").symlink_to(tmp_path.parent)
    assert regular.read(tmp_path / "a", 3) == b"abc" and regular.read(tmp_path / "link") == b"abc"
    with pytest.raises(ValueError, match="larger than 2 bytes"):
        regular.read(tmp_path / "a", 2)
    assert {path.name: kind for path, kind in regular.below(tmp_path)} == {
        "a": regular.FILE, "link": regular.LINK, "there": regular.LINK}


@pytest.mark.parametrize("kind", KINDS)
def test_bad_things_are_named_and_hide_nothing(tree, kind):
    names = [f"{RUN}/samples.safetensors", "runs/all-data/seed-0/moments.safetensors.manifest.json", "t.csv",
             f"{RUN}/new.csv"]
    for name in names:
        make(tree / name, kind)
    found = audit(tree)
    bad = {p.path.name for r in found.results.values() for p in r.problems
           if p.word == ("outside" if kind == "a device" else "not a file")}
    if kind == "a folder":
        names.pop()  # an empty folder more does no harm
    named = {(tree / name).name for name in names}
    assert bad == ({name.removesuffix(manifest.SUFFIX) for name in named} if kind == "a device" else named)
    assert found.results[tree / "runs/only-clean/seed-0/metrics.json"].level == 3


def test_every_command_names_it_and_goes_on(tree, tmp_path, capsys):
    other = shutil.copytree(tree, tmp_path / "second/results/tiny")
    for name in ("a.csv", "runs/y.safetensors.manifest.json", f"{RUN}/x.csv.manifest.json"):
        make(tree / name, "a FIFO")
    assert prune.main([str(tree), "--dry-run"]) == 0
    assert compare.main([str(tree), str(other)]) == 0
    assert crate.main([str(tree), "--out", str(tmp_path / "x.zip")]) == 0
    with pytest.raises(ValueError, match=f"{tree}: no finished training and no samples below it"):
        efficiency.main([str(tree)])
    err = capsys.readouterr().err
    assert err.count("y.safetensors.manifest.json: a FIFO, not a regular file") == 3
    assert "a.csv: a FIFO" in err


def test_a_folder_by_a_link_is_not_followed_and_every_command_says_so(tree, tmp_path, capsys):
    shutil.move(tree / "runs", tmp_path / "elsewhere")
    (tree / "runs").symlink_to(tmp_path / "elsewhere")
    (tree / ".hidden").symlink_to(tmp_path / "elsewhere")
    assert prune.main([str(tree), "--dry-run"]) == 0
    with pytest.raises(ValueError, match="no finished training"):
        efficiency.main([str(tree)])
    assert crate.main([str(tree), "--out", str(tmp_path / "x.zip")]) == 0
    err = capsys.readouterr().err
    assert err.count(f"skipped: {tree / 'runs'}: a folder by a link, which is not followed\n") == 3
    assert ".hidden" not in err


@pytest.mark.parametrize("content", ["[" * 100_000, '{"scores": 5}', '{"scores": [{"nimg": {}}]}', ""])
def test_a_score_file_of_nonsense_with_a_fitting_manifest(tree, content, capsys):
    path = tree / RUN / "metrics.json"
    path.write_text(content)
    refit(path)
    assert ("metrics.json", "differs") in problems(tree)
    assert cli.main(["--why", str(tree / "t.csv"), "--row", "3"]) == 1
    assert "no scores in it" in capsys.readouterr().out


def test_weights_and_tables_of_nonsense_with_fitting_manifests(tree, tmp_path, capsys):
    for name, content in ((f"{RUN}/moments.safetensors", b"x" * 99), ("t.csv", b"\xff\xfe\0"),
                          (f"{RUN}/samples.safetensors", b"\x08" + b"\0" * 7 + b'{"a":{}}')):
        (tree / name).write_bytes(content)
        found = read_json(manifest.path_for(tree / name))
        found.pop("content_sha256", None)
        write_json(manifest.path_for(tree / name), found)
        refit(tree / name)
    assert cli.main([str(tree), "--html", str(tmp_path / "page.html")]) == 1
    out = capsys.readouterr().out
    assert "moments.safetensors" in out and "t.csv" in out and "artefacts" in out.splitlines()[-1]
    assert "is not shown" in (tmp_path / "page.html").read_text()


def test_facts_of_other_kinds_are_shown_as_they_stand(tree, capsys):
    path = tree / "data/digits.safetensors"
    refit(path, facts={"images": "many", "accuracy": [1], "corrupted": {"a": 1}})
    assert cli.main([str(path)]) == 0
    assert "'many'" in capsys.readouterr().out


def test_a_record_of_removal_is_for_arrays_only_and_says_what_the_manifest_says(tree):
    metrics, samples = tree / RUN / "metrics.json", tree / RUN / "samples.safetensors"
    for path in (metrics, samples):
        found = read_json(manifest.path_for(path))
        write_json(prune.pruned_path(path), {key: found[key] for key in prune.RECORDED})
        path.unlink()
    assert ("metrics.json", "orphaned") in problems(tree)
    assert audit(tree).results[samples].pruned
    write_json(prune.pruned_path(samples), read_json(prune.pruned_path(samples)) | {"size": 1})
    assert ("samples.safetensors", "orphaned") in problems(tree)


def test_a_run_called_logs_is_audited_and_so_is_a_table_among_the_logs(tree):
    shutil.copytree(tree / RUN, tree / "runs/logs/seed-0")
    (tree / "logs").mkdir()
    (tree / "logs/a.log").write_text("x")
    (tree / "runs/logs/seed-0/samples.safetensors").write_bytes(b"x")
    assert problems(tree) == {("samples.safetensors", "changed")}
    (tree / "logs/t.csv").write_text("x")
    assert ("t.csv", "unrecorded") in problems(tree)


@pytest.mark.parametrize("name", ["t.csv", "t.png", f"{RUN}/metrics.json", "notes.html", "link.html",
                                  "fifo.html", "page.html"])
def test_a_page_is_written_over_nothing_but_a_page(tree, tmp_path, name, capsys):
    (tree / "notes.html").write_text("<p>mine</p>")
    (tree / "link.html").symlink_to(tree / "t.csv")
    os.mkfifo(tree / "fifo.html")
    before = (tree / "t.csv").read_bytes(), (tree / "notes.html").read_text()
    with pytest.raises(ValueError, match=f"^--html {tree / name}: "):
        cli.main([str(tree / "t.csv"), "--html", str(tree / name)])
    assert before == ((tree / "t.csv").read_bytes(), (tree / "notes.html").read_text())
    page = tree / "t-audit.html"
    for _ in range(2):  # its own page may be replaced
        assert cli.main([str(tree / "t.csv"), "--html", str(page)]) == 0
    assert page.read_text().startswith("<!doctype html>")


def test_a_page_is_not_written_to_a_device(tree, capsys):
    with pytest.raises(ValueError, match="ends in .html"):
        cli.main([str(tree / "t.csv"), "--html", "/dev/stdout"])


def test_a_crate_lies_outside_the_tree_and_over_nothing(tree, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert crate.main([str(tree)]) == 0
    assert (tmp_path / "tiny-crate.zip").exists() and not problems(tree)
    assert "left out" not in capsys.readouterr().out
    (tree / SIGNATURE).write_text("{}")
    assert crate.main([str(tree), "--out", "signed.zip"]) == 0
    assert f"left out: {SIGNATURE}, which signs the tree with its logs" in capsys.readouterr().out
    (tree / SIGNATURE).unlink()
    (tmp_path / "link.zip").symlink_to(tmp_path / "target.zip")
    for out in ("tiny-crate.zip", "link.zip", str(tree / "x.zip"), str(tree.parent / "x"), "gone/x.zip",
                "/dev/stdout"):
        with pytest.raises(ValueError, match="gone: no such folder" if out == "gone/x.zip" else f"^{out}: "):
            crate.main([str(tree), "--out", out])
    for main, line, said in ((crate.main, ["gone"], "gone: no such folder"),
                             (efficiency.main, [str(tree), "--config", "gone"], "--config gone: no such")):
        with pytest.raises(ValueError, match=said):
            main(line)
    assert not (tmp_path / "target.zip").exists() and not list(tree.parent.glob(".x*"))


def test_a_crate_copies_nothing_from_outside_the_tree(tree, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_text("x")
    (tree / "t.png").unlink()
    (tree / "t.png").symlink_to(secret)
    assert crate.main([str(tree), "--out", str(tmp_path / "crate")]) == 0
    assert not (tmp_path / "crate/results/tiny/t.png").exists()
    graph = json.loads((tmp_path / "crate/ro-crate-metadata.json").read_text())["@graph"]
    assert "#pruned/t.png" in {entity["@id"] for entity in graph}
