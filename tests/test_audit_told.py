"""What the audit tells: one number's story, JSON, the page, the root and its signature."""

import csv
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from results_tree import EVALUATION, RUNS, audit, problems, record, refit

from ambient.audit import cli, sign, why
from ambient.audit.chain import Audit, artefacts_in
from ambient.audit.words import Result
from ambient.provenance import manifest, merkle, source_code
from ambient.settings import Experiments
from ambient.specs import TableSpec
from ambient.specs.strict import build, plain
from ambient.stages import tables
from ambient.storage.files import read_json, write_arrays, write_json


def test_one_numbers_story_reaches_the_raw_data(original, capsys):
    assert cli.main(["--why", str(original / "t.csv"), "--row", "Ambient-o"]) == 0
    out = capsys.readouterr().out
    value = read_json(original / "runs/ambient/seed-0/metrics.json")["scores"][0]["value"]
    for words in ("row 3 of 3", f"{value:.6g} (sampling seed 0)", "denoiser.safetensors", "raw.zip  [raw"):
        assert words in out
    assert "only-clean" not in out.split("\n\n")[1]
    for row, words in (("9", "fits 0 rows"), ("x", "1 only-clean, 2 all-data, 3 ambient")):
        with pytest.raises(ValueError, match=words):
            cli.main(["--why", str(original / "t.csv"), "--row", row])


@pytest.fixture
def judged(tree):
    """A tree whose table has a second distance and a scorer of samples, with that table."""
    places = [tree / f"runs/{name}/seed-0" for name, _ in RUNS]
    for k, place in enumerate(places):
        metrics, scores = place / "metrics-good.json", place / "scores-judged.safetensors"
        found = read_json(place / "metrics.json") | {"metric": "fd-good"}
        write_json(metrics, found | {"scores": [one | {"value": 500.25 + k} for one in found["scores"]]})
        record("evaluate", {"out": metrics}, {"samples": place / "samples.safetensors"}, EVALUATION)
        write_arrays(scores, {"score": np.array([[10.0 * k, 10.0 * k + 1], [10.0 * k + 2, 10.0 * k + 2]])})
        record("sample_scores", {"out": scores}, {"samples": place / "samples.safetensors"})
    old = read_json(manifest.path_for(tree / "t.csv"))
    spec = build(TableSpec, old["spec"] | {"beside": ["fd-good"], "scorers": ["judged"]}, "spec")
    inputs = {role: [tree / entry["path"] for entry in old["inputs"][role]]
              for role in ("metrics", "annotations")}
    inputs |= {"beside": [place / "metrics-good.json" for place in places],
               "scored": [place / "scores-judged.safetensors" for place in places]}
    tables.main(spec, None, out=tree / "t.csv", **inputs)
    record("tables", {"out": tree / "t.csv"}, inputs, plain(spec))
    return tree / "t.csv"


def test_the_story_and_the_page_have_the_sources_of_every_measured_cell(judged, tmp_path, capsys):
    cli.main(["--why", str(judged), "--row", "ambient", "--html", str(tmp_path / "a.html")])
    out, shown = capsys.readouterr().out, (tmp_path / "a.html").read_text()
    third = shown.split('<section id="t0-2">')[1]
    told = ("  after 256 training images, fd-good of 40 samples: 502.25 (sampling seed 0), 502.25",
            "  judged, mean of 2 scores: 20.5 (sampling seed 0), 22 (sampling seed 1)",
            "  compared with row 1, runs/only-clean: judged, mean of 2 scores: 0.5 (sampling seed 0), 2 (s",
            "ambient/seed-0/metrics-good.json  [evaluate",
            "ambient/seed-0/scores-judged.safetensors  [sample_scores",
            "only-clean/seed-0/scores-judged.safetensors  [sample_scores")
    for words in told:
        assert words in out and words in third
    assert "ambient/seed-0/samples.safetensors, level" in third.split("<pre>")[0]  # the pictures are its own
    found = audit(judged)
    assert "all-data" not in "\n".join(why.story(found, found.results[judged], "3"))
    first = "\n".join(why.story(found, found.results[judged], "1"))
    assert "judged, mean of 2 scores: 0.5" in first and "compared with" not in first  # with itself


def test_a_rows_files_are_found_among_several_seeds_scorers_and_sweeps():
    def files(*names):
        return [{"path": name} for name in names]

    rows = [{"run": "a"}, {"run": "b", "trained": "c"}]
    inputs = {"metrics": files("a0", "a1", "b0", "b1"), "usable": files("ua", "ub"),
              "annotations": files("sa", "sb"),
              "beside": files("xa0", "xa1", "xb0", "xb1", "ya0", "ya1", "yb0", "yb1"),
              "scored": files("pa0", "pa1", "pb0", "pb1", "qa0", "qa1", "qb0", "qb1"),
              "sweeps": files("of-a", "of-c")}
    spec = {"rows": rows, "training_seeds": [0, 1], "scorers": ["p", "q"]}
    paths = tuple(Path("/t", entry["path"]) for entries in inputs.values() for entry in entries)
    table = Result(Path("/t/t.csv"), parents=paths, manifest={"inputs": inputs, "spec": spec})
    found = Audit(Path("/t"))
    for name in ("a", "c"):
        found.results[Path(f"/t/of-{name}")] = Result(Path(f"/t/of-{name}"), manifest={
            "spec": {"rows": [{"run": "point", "trained": name}]}})
    cells = {"q_win_rate": "0.5", "sweep_rule": "least"}
    own, compared = why.sources_of_row(found, table, 1, cells)
    assert [path.name for path in own] == ["b0", "b1", "ub", "sb", "xb0", "xb1", "yb0", "yb1", "pb0", "pb1",
                                           "qb0", "qb1", "of-c"]
    assert [path.name for path in compared] == ["qa0", "qa1"]
    assert not why.sources_of_row(found, table, 0, {})[1]


def test_a_story_of_what_is_not_audited_is_refused_in_a_sentence(original, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data, table = original / "data", original / "t.csv"
    Path("a.csv").write_text("a")
    for words, said in (
            ([str(original), "--why", "nothing"], "--why nothing: there is no such file"),
            (["--why", str(data)], f"--why {data}: this is a folder: name a file in it"),
            ([str(original), "--why", "a.csv"], "--why a.csv: this file has no manifest, so nobody"),
            ([str(data), "--why", str(table)], f"--why {table}: it is not below what is audited: name")):
        with pytest.raises(ValueError, match=f"^{said}.*; allowed: a file that is audited$"):
            cli.main(words)
    assert cli.main([str(original), "--why", str(manifest.path_for(table))]) == 0  # stands for its artefact
    assert capsys.readouterr().out.startswith(f"{table}  [tables, level 3, ")


@pytest.mark.parametrize("option", ["--why", "--row", "--rerun", "--sign", "--verify", "--html"])
def test_an_empty_value_is_refused_by_the_name_of_its_option(original, option, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main([option, "", str(original)])
    assert f"argument {option}: got '', which is empty" in capsys.readouterr().err


def test_signing_and_verifying_are_two_calls(original, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main([str(original), "--sign", "a.pem", "--verify", "a.pub"])
    assert "--sign and --verify: allowed: one of them" in capsys.readouterr().err


def test_json_has_levels_reasons_and_the_root(original, capsys):
    assert cli.main([str(original), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    table = found["artefacts"][str(original / "t.csv")]
    assert (table["level"], table["next"]) == (3, "")
    assert "--rerun" in found["artefacts"][str(original / "data/digits.safetensors")]["next"]
    seals = [(p.relative_to(original).as_posix(), manifest.read(manifest.path_for(p))["seal"])
             for p in artefacts_in(original)]
    assert found["roots"] == {str(original): {"sha256": merkle.root(seals), "manifests": len(seals)}}


def test_the_page_links_each_cell_and_escapes(original, tmp_path):
    assert cli.main([str(original), "--html", str(tmp_path / "a.html")]) == 0
    text = (tmp_path / "a.html").read_text()
    rows = list(csv.DictReader((original / "t.csv").open()))
    columns = sum(any(row[key] for row in rows) for key in rows[0])  # those that hold anything
    assert text.count('<a href="#t0-2">') == columns and text.count('id="t0-2"') == 1
    assert text.count("data:image/png;base64,") == 3 and "Only Clean" in text
    found = audit(original)
    result = found.results[original / "t.csv"]
    result.problem("differs", "<script>alert(1)</script>")
    from ambient.audit.html import page

    assert "<script>" not in page(found, {})


@pytest.mark.parametrize(("artefact", "name", "expected"), [
    ("results/demo/t.csv", "../x.json", "results/x.json"), ("t.csv", "runs/x.json", "runs/x.json"),
    ("/t.csv", "x.json", "/x.json"), ("../t.csv", "../x.json", "../../x.json")])
def test_an_input_lies_where_its_artefact_says_from_its_own_folder(artefact, name, expected):
    assert merkle.located(Path(artefact), name) == Path(expected)


def test_merkle_root_of_three_leaves():
    import hashlib

    def H(tag, data):
        return hashlib.sha256(tag + data).digest()

    leaves = (("a", "1"), ("b", "2"), ("c", "3"))
    a, b, c = (H(b"\0", f'["{name}","{seal}"]'.encode()) for name, seal in leaves)
    assert merkle.root([("c", "3"), ("a", "1"), ("b", "2")]) == H(b"\1", H(b"\1", a + b) + c).hex()
    assert merkle.root([]) == hashlib.sha256(b"").hexdigest()


def test_the_table_keeps_the_root_of_what_is_below_it(tree):
    stored = read_json(manifest.path_for(tree / "t.csv"))["root"]
    assert stored["manifests"] == 4 + 3 * 5  # shared ones, and those of a run without loss and moments
    refit(tree / "t.csv", root=stored | {"sha256": "0" * 64})
    assert ("t.csv", "contradicted") in problems(tree)


def keys(folder):
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private, public = folder / "key.pem", folder / "key.pub"
    private.write_bytes(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo))
    return private, public


def test_a_signature_holds_for_this_tree_and_key_only(tree, tmp_path, capsys):
    (tmp_path / "other").mkdir()
    private, public = keys(tmp_path)
    _, stranger = keys(tmp_path / "other")
    assert cli.main([str(tree), "--verify", str(public)]) == 1  # not signed yet
    assert cli.main([str(tree), "--sign", str(private)]) == 0
    envelope = read_json(tree / "root.dsse.json")
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    assert cli.main([str(tree), "--verify", str(public)]) == 0
    assert cli.main([str(tree), "--verify", str(stranger)]) == 1
    assert "not signed by this key" in capsys.readouterr().out
    # All of a leaf made to fit, which no digest can tell: the signature does.
    figure = tree / "t-grid.png"
    refit(figure, facts={"note": "edited"})
    assert not problems(tree)
    assert cli.main([str(tree), "--verify", str(public)]) == 1
    assert "signs another root" in capsys.readouterr().out
    write_json(tree / "root.dsse.json", envelope | {"payload": envelope["payload"][:-8] + "AAAAAAA="})
    assert cli.main([str(tree), "--verify", str(public)]) == 1
    for wrong in (tree / "t.csv", public):
        with pytest.raises(ValueError, match="openssl"):
            cli.main([str(tree), "--sign", str(wrong)])


def test_the_page_says_what_was_verified_and_without_that_it_is_unsigned(tree, tmp_path):
    private, public = keys(tmp_path)
    page = tmp_path / "v.html"

    def shown():
        cli.main([str(tree), "--verify", str(public), "--html", str(page)])
        return page.read_text()

    said = shown()
    assert "could not be verified" in said and "no signature here" in said and "Every link" not in said
    cli.main([str(tree), "--sign", str(private)])
    said = shown()
    assert f"The signature of {tree / 'root.dsse.json'} holds: " in said and "Unsigned" not in said
    assert "Every link of every result holds." in said
    (tree / "README.md").write_text("x")
    said = shown()
    assert "does not hold: 1 differences" in said and "1 problem<" in said and "Unsigned" not in said
    assert f"{tree / 'README.md'}: unsigned: " in said
    cli.main([str(tree), "--html", str(page)])
    assert "Unsigned and uncommitted, it does not prove" in page.read_text()


def test_a_page_that_is_signed_says_so_and_none_is_written_for_a_bad_key(tree, tmp_path, capsys):
    private, public = keys(tmp_path)
    page = tree / "audit.html"
    with pytest.raises(ValueError, match="openssl"):
        cli.main([str(tree), "--sign", str(public), "--html", str(page)])
    assert not page.exists() and not (tree / "root.dsse.json").exists()
    assert cli.main([str(tree), "--sign", str(private), "--html", str(page)]) == 0
    said = page.read_text()
    assert "It was signed as root.dsse.json right after this page was written: <code>python -m" in said
    assert "Unsigned" not in said
    assert cli.main([str(tree), "--verify", str(public)]) == 0  # the page is among what was signed
    page.write_text(said.replace("audit", "audits", 1))
    assert cli.main([str(tree), "--verify", str(public)]) == 1
    assert "audit.html: unsigned: edited since the tree was signed" in capsys.readouterr().out


def test_a_signature_covers_every_file_and_names_what_it_can_not_cover(tree, tmp_path, capsys):
    private, public = keys(tmp_path)
    names = ("report.html", "README.md", "logs/a.log", ".hidden", "runs/ambient/seed-0/t-audit.html")
    for name in names:
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text("as it was")
    (tree / "near.csv").symlink_to("t.csv")
    os.mkfifo(tree / ".fifo")
    found = audit(tree)

    def changed():
        content = sign.content(tree, found.digest)
        return sign.differences(statement, found.root(tree), content, lambda name, digest: False), content

    content = sign.content(tree, found.digest)
    written = sign.sign(tree, sign.signer(tree, private), sign.statement(found.root(tree), content, {}, 0))
    statement = sign.signed(tree, public)
    assert changed()[0] == [] and set(names) <= content.files.keys() and written.name not in content.files
    assert {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file() and
            not path.is_symlink()} == content.files.keys() | {written.name}
    assert statement["predicate"]["not_covered"] == {".fifo": "a FIFO"}
    for name in names:
        found.digests.clear()
        (tree / name).write_text("FID 0.1")
        assert changed()[0] == [(name, "edited since the tree was signed")]
        (tree / name).unlink()
        assert changed()[0] == [(name, "removed since the tree was signed")]
        (tree / name).write_text("as it was")
        found.digests.clear()
    (tree / "new.csv").write_text("x")
    (tree / "near.csv").unlink()
    (tree / "near.csv").symlink_to("summary.csv")
    assert changed()[0] == [("new.csv", "added since the tree was signed"),
                            ("near.csv", "edited since the tree was signed")]
    assert cli.main([str(tree), "--verify", str(public)]) == 1
    out = capsys.readouterr().out
    assert "new.csv: unsigned: added since" in out and "does not hold: 2 differences" in out
    assert "not covered by the signature: .fifo (a FIFO)" in out


def test_a_signature_replaces_a_signature_only(tree, tmp_path):
    private, _ = keys(tmp_path)
    (tree / sign.SIGNATURE).write_text('{"mine": 1}')
    with pytest.raises(ValueError, match="no signature, so not written over"):
        sign.signer(tree, private)
    assert (tree / sign.SIGNATURE).read_text() == '{"mine": 1}'


def test_a_setting_that_is_another_now_is_named(tmp_path, capsys):
    made = tmp_path / "results/demo/theory.csv"
    made.parent.mkdir(parents=True)
    made.write_text("a\n")
    spec = plain(Experiments(source_code.ROOT / "config", "demo").theory("theory"))

    def recorded(**changes):
        manifest.path_for(made).write_text(manifest.json_text(manifest.build(
            made, "ambient.theory", spec | changes, {}, [], {}, manifest.Clock(),
            outputs={"out": (made, manifest.sha256(made))})))

    recorded()
    assert cli.main([str(made)]) == 0
    recorded(n_clean=7)
    capsys.readouterr()
    assert cli.main([str(made)]) == 1
    assert ("theory.csv: other settings: spec.n_clean: made with 7, the configuration asks for "
            f"{spec['n_clean']}") in capsys.readouterr().out
    assert cli.main([str(made), "--allow-other-settings"]) == 0


def test_the_last_line_counts_problems_by_kind(tree, capsys):
    for path in sorted(tree.glob("runs/*/seed-0/loss.jsonl"))[:2]:
        path.write_text("{}")
    (tree / "data/digits.safetensors").unlink()
    assert cli.main([str(tree)]) == 1
    *_, last = capsys.readouterr().out.splitlines()
    found = dict(re.findall(r"(\w+): (\d+)", last.partition("problems (")[2]))
    assert {"changed": "2", "orphaned": "1"}.items() <= found.items()
    assert sum(map(int, found.values())) == int(re.search(r"(\d+) problems", last)[1])
