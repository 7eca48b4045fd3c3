"""The audits that are jobs of the workflow: they take the digests that it noted, and say so."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from ambient.audit import chain, cli
from ambient.audit.noted import Noted
from ambient.audit.stages import report, summary
from ambient.jobs import run
from ambient.provenance import manifest
from ambient.specs import ReportSpec, SummarySpec
from ambient.specs.strict import build
from ambient.storage.digests import STORE, Digests, signature
from ambient.storage.files import read_json, sha256


@pytest.fixture
def noted(tree, monkeypatch):
    """A tree of which all files are noted, and the names of those that an audit hashes."""
    monkeypatch.chdir(tree.parents[1])
    STORE.parent.mkdir()
    digests = Digests(STORE)
    for path in tree.rglob("*"):
        if path.is_file():
            digests.of(Path(os.path.relpath(path)))
    digests.save()
    read = []
    monkeypatch.setattr(chain, "sha256", lambda path: read.append(Path(path).name) or sha256(path))
    return SimpleNamespace(tree=tree, table=tree / "t.csv", read=read)


def test_the_workflows_pages_hash_no_file_that_is_noted_and_say_how_many(noted, capsys):
    page = noted.tree / "t-audit.html"
    assert cli.main([str(noted.table), "--noted", "--html", str(page)]) == 0
    assert noted.read == []
    told = capsys.readouterr().out.splitlines()
    many = int(told[-1].split()[0])
    assert many > 10 and told[-2].startswith(f"{many} files (") and "were not hashed again" in told[-2]
    assert told[-2] in page.read_text()
    assert cli.main([str(noted.table), "--noted", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["noted"] == [told[-2]]
    assert cli.main([str(noted.table), "--html", str(page)]) == 0
    assert len(noted.read) == many and "hashed again" not in page.read_text() + capsys.readouterr().out


@pytest.mark.parametrize("time_put_back", [False, True])
def test_a_changed_file_is_found_though_it_is_noted(noted, time_put_back, capsys):
    path = noted.tree / "runs/ambient/seed-0/metrics.json"
    times = path.stat()
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
    if time_put_back:
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert cli.main([str(noted.table), "--noted"]) == 1
    assert noted.read == ["metrics.json"] and "metrics.json: changed" in capsys.readouterr().out


def test_false_notes_deceive_the_workflows_pages_alone(noted, capsys):
    """Who may write into the folder writes the signature of a changed file beside its old digest."""
    path = noted.tree / "data/digits.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    notes = Digests(STORE)
    key = os.path.relpath(path)
    notes.known[key][0], notes.new = signature(path), True
    notes.save()
    assert cli.main([str(noted.table), "--noted"]) == 0
    capsys.readouterr()
    assert cli.main([str(noted.table)]) == 1
    assert "digits.safetensors: changed" in capsys.readouterr().out


@pytest.mark.parametrize("option", [["--sign", "k"], ["--verify", "k"], ["--rerun", "1"]])
def test_what_vouches_for_files_reads_them(option, noted, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([str(noted.tree), "--noted", *option])
    assert ended.value.code == 2 and "--noted: allowed: without --sign" in capsys.readouterr().err


def test_without_notes_all_is_hashed_and_said_to_be(noted, capsys):
    STORE.unlink()
    assert cli.main([str(noted.table), "--noted"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[-2] == "Every file was hashed for this audit."
    assert len(noted.read) == int(told[-1].split()[0])


def test_a_job_says_in_its_log_and_manifest_what_it_took(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    STORE.parent.mkdir()
    digests = Digests(STORE)
    for name in ("a", "b"):
        Path(name).write_text(name * 3)
    digests.of(Path("a"))
    digests.save()
    notes, record = Noted(), SimpleNamespace(facts={"tables": 1})
    assert (notes.of(tmp_path / "a"), notes.of(tmp_path / "b")) == (sha256("a"), None)
    notes.report("summary", record)
    assert record.facts == {"tables": 1, "noted": {"files": 1, "bytes": 3}}
    assert capsys.readouterr().err.startswith("summary: 1 file (0.0 MB) had been hashed by the workflow")


def test_summary_and_report_have_the_same_bytes_with_and_without_notes(noted):
    spec = build(SummarySpec, read_json(manifest.path_for(noted.tree / "summary.csv"))["spec"], "spec")
    page, found = ReportSpec("tiny", spec.tables, ()), []
    pictures = [noted.tree / f"t{part}.png" for part in ("", "-curves", "-classifiers", "-grid")]
    for told in ({}, {"noted": True}):
        one, other = SimpleNamespace(facts={}), SimpleNamespace(facts={})
        summary.main(spec, one, tables=[noted.table], out=Path("summary"), **told)
        report.main(page, other, tables=[noted.table], pictures=pictures, out=Path("page"), **told)
        found.append((Path("summary").read_bytes(), Path("page").read_bytes()))
        assert bool(noted.read) != bool(told)
        assert [bool(told), bool(told)] == ["noted" in one.facts, "noted" in other.facts]
        noted.read.clear()
    assert found[0] == found[1]
    assert found[0][0] == (noted.tree / "summary.csv").read_bytes()


def test_the_runner_tells_summary_and_report_alone_to_use_the_notes(noted, capsys):
    spec = json.dumps(read_json(manifest.path_for(noted.tree / "summary.csv"))["spec"])
    out = noted.tree / "again.csv"
    words = ["--spec", spec, "--tables", str(noted.table), "--out", str(out)]
    assert run.main(["summary", "--noted", *words]) == 0
    found = manifest.read(manifest.path_for(out))["facts"]["noted"]
    assert noted.read == [] and found["files"] > 10
    assert f"summary: {found['files']} files (" in capsys.readouterr().err
    out.unlink()
    assert run.main(["summary", *words]) == 0
    assert len(noted.read) == found["files"] and "noted" not in manifest.read(manifest.path_for(out))["facts"]
    with pytest.raises(SystemExit):
        run.main(["tables", "--noted", "--spec", "{}", "--metrics", str(noted.table), "--out", str(out)])
    assert "unrecognized arguments: --noted" in capsys.readouterr().err
