"""What people read: the report's page, the audit's page, and what commands say to those who mistype."""

import dataclasses
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from unittest import mock

import jinja2
import pandas as pd
import pytest
from results_tree import audit

from ambient import __main__ as command
from ambient.annotation.statistics import WEAK_ACCURACY
from ambient.audit import html
from ambient.audit.chain import Audit
from ambient.audit.stages.report import chains
from ambient.provenance import manifest
from ambient.provenance.manifest import path_for
from ambient.report import findings, show
from ambient.report import page as report
from ambient.report.template import PAGE
from ambient.settings import Experiments
from ambient.specs import ReportSpec, RowSpec, ShownFigure, TableSpec
from ambient.specs.strict import build
from ambient.storage.files import read_json

ROOT = Path(__file__).parents[1]


class Page(HTMLParser):
    """A page's tags with their attributes, in order, and the text below each."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append([tag, dict(attrs), ""])
        if tag not in ("meta", "img", "br", "wbr"):
            self.open.append(self.tags[-1])

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        for tag in self.open:
            tag[2] += data

    def all(self, *names):
        return [[tag, attributes, " ".join(text.split())] for tag, attributes, text in self.tags
                if tag in names]


@pytest.fixture(scope="module")
def page(original):
    spec = build(TableSpec, read_json(path_for(original / "t.csv"))["spec"], "spec")
    rows = [dataclasses.replace(row, target="digits & letters, 8x8", paper_target="CIFAR-10",
                                paper_samples=50000) for row in spec.rows]
    spec = dataclasses.replace(spec, title="Table 9: <b>blur</b>", rows=tuple(rows))
    pictures = [original / f"t{part}.png" for part in report.PICTURES]
    shown = ReportSpec("tiny", (spec,), (ShownFigure("t", "Figure 9: more", "levels"),))
    return Page(report.page(shown, [original / "t.csv"], [*pictures, original / "t.png"], [3]))


def test_the_report_opens_on_what_the_tables_say(page, original):
    order = [tag for tag, *_ in page.all("h1", "h2", "li", "table", "figure")]
    assert order[:2] == ["h1", "h2"] and order.count("li") <= 6
    assert order.index("li") < order.index("table") < order.index("figure") and order.count("figure") == 5
    table = pd.read_csv(original / "t.csv")
    body = [text for tag, _, text in page.all("th", "td")]
    for column in ("value", "value_std", "paper_value"):
        assert {f"{value:.2f}" for value in table[column]} <= set(body)
    assert {"method", "ours", "± sampling seeds", "paper", "provenance", "protocol of ours"} <= set(body)
    assert "fd-net of 40 samples, one training seed and 2 sampling seeds, 256 images seen" in body
    assert body.count("level 3") == len(table)
    assert any("Training seeds repeat the training alone" in text for *_, text in page.all("p"))


def test_the_report_is_whole_in_itself_and_fits_a_phone(page):
    metas = [attributes for _, attributes, _ in page.all("meta")]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in metas
    assert any("default-src 'none'" in attributes.get("content", "") for attributes in metas)
    assert page.all("title")[0][2] == "Ambient Diffusion Omni, scale tiny: results"
    assert page.all("html")[0][1]["lang"] == "en"
    for _, attributes, _ in page.tags:
        assert not re.match(r"(https?:)?//", attributes.get("src") or attributes.get("href") or "")
    images = page.all("img")
    assert len(images) == 5 and all(i[1]["alt"] and i[1]["src"].startswith("data:image/png;base64,iVBOR")
                                    for i in images)
    assert all(len(text) > 40 for *_, text in page.all("figcaption"))
    assert not page.all("script", "link", "iframe")
    assert [attributes["class"] for tag, attributes, _ in page.tags if tag == "div"][0] == "wide"


def test_the_report_escapes_what_it_is_given(page):
    assert "Table 9: <b>blur</b>" in [text for *_, text in page.all("h2")]
    assert any("digits & letters, 8x8" in text for *_, text in page.all("p"))


def test_every_number_of_the_report_leads_to_where_it_comes_from(original):
    spec = build(TableSpec, read_json(path_for(original / "t.csv"))["spec"], "spec")
    files = [original / f"t{part}.png" for part in report.PICTURES]
    audited = Audit(original / "t.csv", draws=False)
    text = report.page(ReportSpec("tiny", (spec,), (ShownFigure("t", "Figure 9: more", "levels"),)),
                       [original / "t.csv"], [*files, original / "t.png"], [3],
                       chains=chains(audited, [original / "t.csv", *files]))
    page = Page(text)
    ids = {attributes["id"]: text for _, attributes, text in page.tags if "id" in attributes}
    links = [attributes["href"] for _, attributes, _ in page.all("a")]
    assert {link[1:] for link in links if link.startswith("#")} <= ids.keys()
    for part in ("li", "figcaption"):
        for piece in re.findall(f"<{part}>.*?</{part}>", text, re.S):
            assert re.search(r'<a href="#chain-\d+">level [23]</a>', piece), piece
    cells = re.findall(r"<td>(.*?)</td>", text)
    cell = r'<a href="t-audit.html#t0-\d">[^<]*</a>'
    assert len(cells) > 6 and all(re.fullmatch(cell, one) for one in cells)
    told = {ids[link[1:]].split()[0] for link in links if link.startswith("#chain")}
    assert {Path(one).name for one in told} == {"t.csv", *(path.name for path in files)}
    assert audited.artefact(files[0]).level == 2 < Audit(files[0]).artefact(files[0]).level
    assert "denoiser.safetensors  [train, level 2" in text and "[raw, sha256" in text


def test_the_report_says_what_was_read_of_photographs(original, tmp_path):
    facts = {"images": 1200, "raw_images": 1500, "converted": {"turned": 3}, "left_out": {"damaged": 1}}
    prepared = tmp_path / "birds-good.safetensors"
    prepared.write_bytes(b"")
    with mock.patch.object(manifest, "read", return_value={"facts": facts}):
        (found,) = report.images_read([prepared])
    text = jinja2.Environment(autoescape=True).from_string(PAGE).render(
        read=[found], sections=[], others=[], scale="birds", folder="results/birds", ended="", commits="",
        chains=report.Chains())
    assert "birds-good</b>: 1,200 of 1,500 image files.\nConverted: 3 turned.\nLeft out: 1 damaged." in text


def table_of(values, papers, **columns):
    published = [{"fid": paper} if paper == paper else {} for paper in papers]
    rows = tuple(RowSpec(f"r{k}", f"runs/r{k}", f"method {k}", None, {}, paper, None, target="digits, 8x8",
                         paper_target="CIFAR-10", paper_samples=50_000)
                 for k, paper in enumerate(published))
    frame = pd.DataFrame({"value": values, "paper_value": papers, "metric": "fd-x", "num_samples": 100,
                          "num_seeds": 3, "num_training_seeds": 1, "value_std": 0.5,
                          "training_std": float("nan")} | columns)
    return TableSpec("t", "s", rows, (0,)), frame


def test_findings_are_the_tables_own():
    spec, table = table_of([3.0, 2.5, 9.0], [5.0, 6.0, 7.0])
    found = findings.findings(spec, table, 2)
    assert len(found) <= 6
    assert found[0] == "Best here: method 1 2.5, ahead of method 0 3, method 2 9."
    assert found[1].startswith("It is ahead by 0.5; the larger standard deviation of the two is 0.5 (one")
    assert found[2] == ("Order: 2 of 3 pairs of rows are in the paper's order; 1 of 3 differ here by no more "
                        "than two standard deviations.")
    assert "fd-x of 100 samples on digits, 8x8; paper: CIFAR-10: only the order" in found[3]
    assert "level 2" in found[4]
    same = findings.comparable(*table_of([3.0], [5.0], metric="fid", num_samples=50_000))
    assert "the same protocol, so values compare" in same
    trained = table_of([3.0, 2.5], [5.0, 6.0], training_std=2.0, num_training_seeds=3)[1]
    assert "is 2 (3 training seeds and 3 sampling seeds a row)." in findings.uncertain(trained)
    alone = findings.findings(*table_of([3.0], [float("nan")]), 3)
    assert alone[0] == "Best here: method 0 3." and not any("Order" in text for text in alone)


def test_a_sentence_says_whether_the_other_images_helped():
    spec, table = table_of([4.0, 3.0, 9.0], [float("nan")] * 3)
    rows = [dataclasses.replace(row, corruption=corruption, annotated=annotated) for row, corruption,
    annotated         in zip(spec.rows, (None, "add", "add"), (None, "noise", None), strict=True)]
    spec = dataclasses.replace(spec, rows=tuple(rows))
    assert findings.helped(spec, table) == (
        "Whether the other images helped can't be told: method 1 is nearer than method 0 by 1 (25%), no more "
        "than two standard deviations.")
    table["value"] = [4.0, 2.5, 9.0]
    table["training_values"] = ["4/4.5/3.5", "2/2.5/3", "9/2.25/15"]
    assert findings.helped(spec, table) == (
        "The other images helped: method 1 is nearer than method 0 by 1.5 (38%), more than two standard "
        "deviations. method 1 is ahead of all other rows in 2 of 3 training seeds.")
    table["training_values"] = None
    table["value"] = [4.0, 6.0, 9.0]
    assert findings.helped(spec, table) == (
        "The other images did not help here: method 1 is farther than method 0 by 2 (50%), more than two "
        "standard deviations.")
    table["value_std"] = float("nan")  # of one sampling seed
    assert findings.helped(spec, table) == (
        "Whether the other images helped can't be told: method 1 is farther than method 0 by 2 (50%), and "
        "how far seeds scatter is not known.")
    assert "It is ahead by 2; how far seeds scatter is not known (" in findings.uncertain(table)
    assert findings.comparable(spec, table) == (
        "Measured by fd-x of 100 samples on digits, 8x8: only the rows of this table compare.")


def held_out(*accuracies):
    """What a classifier says of held-out images, at rising levels."""
    return {"levels": [{"sigma": 0.1 * 2**k, "accuracy": one} for k, one in enumerate(accuracies)]}


@pytest.mark.parametrize(("best", "told"), [(WEAK_ACCURACY - 0.01, False), (WEAK_ACCURACY, True)])
def test_the_page_says_where_the_classifier_cant_tell_good_images_and_what_helps(original, best, told):
    spec = build(TableSpec, read_json(path_for(original / "t.csv"))["spec"], "spec")
    spec = dataclasses.replace(spec, told_apart=("blurred images", "dark images"))
    pictures, files = [original / f"t{part}.png" for part in report.PICTURES], [Path("a"), Path("b")]
    with mock.patch.object(report, "read_json", {files[0]: held_out(0.5, 0.99), files[1]: held_out(
            0.6, 0.5, best, 0.5)}.get):
        text = report.page(ReportSpec("tiny", (spec,), ()), [original / "t.csv"], pictures, [3],
                           classifiers=files)
    said = [text for *_, text in Page(text).all("li")]
    assert ("The noise classifier tells good images from blurred images: 0.99 of held-out images right at "
            "sigma 0.2, its best level.") in said
    dark, = (text for text in said if "dark images" in text)
    assert f"{best:.2f} of held-out images right at sigma 0.4, its best level" in dark
    for words in ("can hardly tell", "sigma_min means little", "More good images help most"):
        assert (words in dark) != told
    with pytest.raises(ValueError, match="shorter"):
        findings.findings(spec, pd.read_csv(original / "t.csv"), 3, [held_out(0.9)])


def test_the_report_of_everything_names_all_figures():
    found = Experiments(ROOT / "config", "demo")
    main, whole = found.report(False), found.report(True)
    assert [table.name for table in main.tables] == ["table2a"] and not main.figures
    assert [table.name for table in whole.tables] == list(found.tables)
    assert {figure.name for figure in whole.figures} == {*found.figures, "theory"}
    found.main_figures = ["figure3"]
    assert [figure.name for figure in found.report(False).figures] == ["figure3"]
    assert all(report.caption(figure.kind) and figure.title != figure.name for figure in whole.figures)
    assert all(table.title for table in whole.tables)


# --- the audit's page ----------------------------------------------------------------------------------


def test_the_audit_page_shows_ours_and_the_papers_first_and_says_of_what_and_when(original):
    found = Page(html.page(audit(original / "t.csv"), {}))
    assert found.all("title")[0][2] == found.all("h1")[0][2] == "Audit of t.csv"
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in [
        attributes for _, attributes, _ in found.all("meta")]
    heads = [text for *_, text in found.all("th")]
    assert heads[:6] == ["method", "corruption", "sigma_px", "value", "value_std", "paper_value"]
    said = found.all("p")[0][2]
    assert re.search(r"20\d\d-\d\d-\d\d \d\d:\d\d UTC, by commit ([0-9a-f]{12}|unknown)", said)


# --- commands ------------------------------------------------------------------------------------------


def run(*arguments, cwd=ROOT):
    done = subprocess.run([sys.executable, "-m", "ambient", *map(str, arguments)], cwd=cwd, text=True,
                          capture_output=True)
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.mark.parametrize(("given", "status"),
                         [("0", 2), ("two", 2), ("-1", 2), ("2,0", 2), ("", 0), ("2,1", 0)])
def test_a_number_of_threads_that_is_none_is_refused(monkeypatch, capsys, given, status):
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert command.main(["spec", "ambient-blur-0.6"]) == status
    assert status == 0 or f"OMP_NUM_THREADS: got {given!r}, allowed: 1 or more" in capsys.readouterr().err


def test_an_unknown_command_is_named_with_the_nearest(capsys):
    assert command.main(["foo"]) == 2
    assert "unknown command 'foo' (known: new, audit, show" in capsys.readouterr().err
    assert command.main(["docter"]) == 2
    assert "unknown command 'docter' (did you mean 'doctor'?)" in capsys.readouterr().err
    assert command.main(["train"]) == 2
    said = capsys.readouterr().err
    assert "'train' is a stage, not a command: python -m ambient run train --help" in said
    assert command.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(re.search(rf"^  {name} +\w", text, re.M) for name in command.COMMANDS)


def test_show_says_which_seeds_the_spreads_are_of(original):
    done = run("show", original / "t.csv")
    assert done.returncode == 0
    assert "one training seed, so how training seeds scatter is not known" in done.stdout
    assert "standard deviation over 2 sampling seeds" in done.stdout and "lower is better" in done.stdout


def test_a_number_that_rounds_to_nothing_has_no_sign():
    table = pd.DataFrame({"sigma_min_lag": [-0.001, -0.006]})
    assert show.text_of(table, {"sigma_min_lag": "lag"}).split() == ["lag", "0.00", "-0.01"]
    assert [report.cell(value, 2) for value in (-0.001, -1234.5)] == ["0.00", "-1,234.50"]


def test_show_has_the_scores_by_a_tables_scorers(tmp_path, capsys):
    scores = "g_overall,g_overall_se,v_mean,g_detector,paper_g_overall"
    head = HEADER.decode().strip() + f",sigma_min_mean,{scores}"
    (tmp_path / "t.csv").write_text(f"{head}\nAll data,fd-x,1.0,8,1,1,0.5,0.25,0.125,3.5,eyes,0.44\n")
    assert command.main(["show", str(tmp_path / "t.csv")]) == 0
    said = capsys.readouterr().out.partition("By its scorers (higher is better):")[2]
    assert re.findall(r"\S+ overall|\S+ ±|\S+ mean", said) == [
        "g overall", "g ±", "v mean", "g overall"]
    assert re.search(r"g detector +the paper: g overall\n", said)
    assert re.search(r"All data +0\.250 +0\.125 +3\.500 +eyes +0\.440\n", said)


def test_show_has_the_distances_by_other_detectors(tmp_path, capsys):
    """Table 9a's numbers stand beside the first one, each with its spreads and the paper's."""
    more = "fd-y,fd-y_std,fd-y_training_std,fd-y_best,fd-y_num_samples,paper_fd-y"
    head = HEADER.decode().strip() + f",{more}"
    (tmp_path / "t.csv").write_text(f"{head}\nAmbient-o,fd-x,1.0,8,1,3,2.5,,0.5,2.25,8,9.4\n")
    assert command.main(["show", str(tmp_path / "t.csv")]) == 0
    said = capsys.readouterr().out
    assert "mean over 3 training seeds (standard deviation over them" in said
    said = said.partition("By other detectors (lower is better):")[2]
    assert re.search(r"method +fd-y +\+- training fd-y +the paper: fd-y\n", said)
    assert re.search(r"Ambient-o +2\.50 +0\.50 +9\.40\n", said)


HEADER = b"method,metric,value,num_samples,num_seeds,num_training_seeds\n"


@pytest.mark.parametrize(("metric", "paper", "said"), [
    ("fd-x", "", None), ("fd-x", "5.3", "only the order of the methods compares"),
    ("fid", "5.3", "values compare where data and number of samples are the paper's")])
def test_show_speaks_of_the_paper_where_it_has_a_number(tmp_path, capsys, metric, paper, said):
    """A table of one's own images was said to compare with the paper's by its order."""
    head = HEADER.decode().strip() + ",paper_value"
    (tmp_path / "t.csv").write_text(f"{head}\nAmbient-o,{metric},1.0,8,1,3,{paper}\n")
    assert command.main(["show", str(tmp_path / "t.csv")]) == 0
    out = capsys.readouterr().out
    assert said in out if said else "paper's" not in out


@pytest.mark.parametrize(("name", "content", "said"), [
    ("none.csv", None, "no such file"),
    ("empty.csv", b"", "not a table"),
    ("binary.csv", bytes(range(256)), "not a table"),
    ("foreign.csv", b"a,b\n1,2\n", "no column method, metric"),
    ("cut.csv", HEADER + b"Only Clean,fd-x,1.0,,,\n", "damaged"),
    ("text.csv", HEADER + b"x,y,z,z,z,z\n", "damaged"),
    (".", None, "a folder, allowed: the CSV file of a table"),
    ("rows.csv", HEADER, "a table without rows")])
def test_show_of_what_is_no_table_is_one_line(tmp_path, capsys, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert command.main(["show", str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("ambient show: error: ") and error.count("\n") == 1
    assert str(tmp_path / name) in error and said in error


@pytest.mark.parametrize("arguments", [
    ("show", "."), ("audit", "none"), ("audit", "empty"), ("compare", "none", "none"),
    ("audit", "bad.csv", "--rerun", "none"), ("audit", "bad.csv", "--html", "bad.csv"),
    ("compare", "empty", "empty"), ("crate", ".", "--out", "bad.csv"), ("crate", ".", "--out", "none/x.zip"),
    ("efficiency", "empty"), ("efficiency", ".", "--config", "none"),
    ("prune", "none"), ("crate", "none"), ("efficiency", "none"), ("spec", "none"),
    ("spec", "only-clean", "none"),
    ("doctor", "none"), ("doctor", "demo", "none"), ("doctor", "demo", "results/small/table2a.csv")])
def test_what_no_command_can_use_is_one_line_without_usage(tmp_path, arguments, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.csv").write_bytes(b"\xff\x00")
    (tmp_path / "empty").mkdir()
    (tmp_path / "config").symlink_to(ROOT / "config")
    assert command.main(list(arguments)) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"ambient {arguments[0]}: error: ") and error.count("\n") == 1
    monkeypatch.setenv("AMBIENT_TRACEBACK", "1")
    with pytest.raises((ValueError, OSError)):
        command.main(list(arguments))


def test_a_file_without_a_manifest_is_a_finding_of_the_audit(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("bad.csv").write_bytes(b"\xff\x00")
    assert command.main(["audit", "--why", "bad.csv"]) == 1
    assert "bad.csv: unrecorded: no bad.csv.manifest.json" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [
    ("audit", "--row", "1"), ("audit", "--rerun", "-1"), ("compare", "one"),
    ("prune", ".", "--stages", "none"), ("crate",), ("efficiency",), ("spec",), ("show",),
    ("doctor", "--none")])
def test_a_call_that_is_wrong_by_itself_ends_below_the_usage(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main(list(arguments))
    error = capsys.readouterr().err
    assert error.startswith(f"usage: python -m ambient {arguments[0]} ")
    assert f"\npython -m ambient {arguments[0]}: error: " in error
    assert ("--rerun -1: at least 0" in error) == ("-1" in arguments)


def test_an_error_that_nobody_foresaw_is_one_line_too(monkeypatch, capsys):
    monkeypatch.setitem(command.MODULES, "show", "tests.test_report")
    monkeypatch.setattr(sys.modules[__name__], "main", lambda arguments: {}["x"], raising=False)
    monkeypatch.setitem(sys.modules, "tests.test_report", sys.modules[__name__])
    assert command.main(["show"]) == 2
    assert capsys.readouterr().err == "ambient show: error: KeyError: 'x' (AMBIENT_TRACEBACK=1 shows where)\n"
    for off in ("0", ""):
        monkeypatch.setenv("AMBIENT_TRACEBACK", off)
        assert command.main(["show"]) == 2
    monkeypatch.setenv("AMBIENT_TRACEBACK", "1")
    with pytest.raises(KeyError):
        command.main(["show"])


def test_order_allows_for_two_standard_deviations():
    said = findings.order(*table_of([3.0, 2.2, 9.0], [5.0, 6.0, 7.0]))  # 0.8 apart, deviations of 0.5
    assert "1 of 3 differ here by no more than two" in said


def test_distances_of_other_numbers_of_samples_do_not_compare():
    assert "only the order" in findings.comparable(*table_of([3.0], [5.0], metric="fid", num_samples=100))


def test_the_page_says_what_its_tables_were_made_from(monkeypatch):
    edited = {"commit": "0123456789abcdef", "dirty": True}
    codes = iter([edited, {}, edited])
    monkeypatch.setattr(manifest, "read", lambda path: {"code": next(codes),
                                                        "execution": {"ended": "2026-01-02T03:04:05"}})
    assert report.origin([Path("a"), Path("b"), Path("c")]) == {
        "ended": "2026-01-02 03:04 UTC", "commits": "commit 0123456789ab, edited; a copy without git"}
