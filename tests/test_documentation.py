"""Words that can be checked: links, files, commands, examples, and pages that are generated from the code."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import nbclient
import nbformat
import numpy as np
import pytest
import yaml
from tiny import CLASSIFIER, TRAINING, kept

from ambient import __main__ as front_door
from ambient import specs
from ambient.cluster import plan
from ambient.cluster.site import Site
from ambient.cluster.site import read as read_site
from ambient.commands import new_scale
from ambient.data.annotations import Annotations
from ambient.data.squares import CROPS
from ambient.settings import Experiments, entry_types, scales
from ambient.stages import classifier, train

ROOT = Path(__file__).parents[1]
BESIDE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "results/README.md")
PAGES = sorted([*map(ROOT.joinpath, BESIDE), *(ROOT / "docs").glob("*.md")])
TOP = ("ambient", "benchmarks", "config", "docs", "tests", "workflow")  # folders that a path can begin with
MINE = ("birds", "try", "mine", "xs", "rated")  # scales of the reader's own
OF_A_USER = {"config/local.yaml", "config/site.yaml",  # made, and not committed
             *(f"config/scales/{scale}.yaml" for scale in MINE)}
WORKFLOW = {"all", "demo_all", "small_all", "paper_all"}  # rules that are asked for by name
EVERYWHERE = {"theory", "summary", "report", "report-all"}  # files of every scale beside tables and figures


def yaml_blocks(page: Path) -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def examples() -> list:
    """(page and number, code) of each Python block."""
    blocks = [(page, block) for page in PAGES
              for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)]
    return [pytest.param(block, id=f"{name_of(page)}-{k}") for k, (page, block) in enumerate(blocks)]


def test_the_readme_is_one_and_a_half_screens():
    words = (ROOT / "README.md").read_text().split()
    assert len(words) <= 600, len(words)
    picture = ROOT / "docs/images/demo-samples.png"
    assert picture.stat().st_size < 150_000 and picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("https://", "#")):
            continue
        path, _, anchor = target.partition("#")
        linked = page.parent / path
        assert linked.exists(), f"{name_of(page)}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)", linked.read_text().lower(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", one).replace(" ", "-") for one in headings}, target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_named_files_exist(page):
    for path in re.findall(rf"`((?:{'|'.join(TOP)})/[^`\s{{<]*)`", page.read_text()):
        if path not in OF_A_USER:
            assert list(ROOT.glob(path)), f"{name_of(page)}: there is no {path}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_named_modules_and_commands_exist(page):
    text = page.read_text()
    for command in re.findall(r"python -m ambient ([\w-]+)", text):
        assert command in front_door.COMMANDS, f"{name_of(page)}: {command}"
    for module in re.findall(r"python -m ((?:ambient|benchmarks|tests)\.[\w.]*\w)", text):
        assert find_spec(module), f"{name_of(page)}: {module}"
    for target in re.findall(r"make (\w+)`", text):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target


@pytest.fixture(scope="module")
def named():
    """What each scale makes by name: tables, figures, and what all have."""
    shown = ("demo", "demo3", "windows", "four-forms", "small", "tenth", "captioned", "paper", "paper-day")
    made = {scale: Experiments(ROOT / "config", scale) for scale in shown}
    return {scale: {*one.tables, *one.figures, *EVERYWHERE} for scale, one in made.items()}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_workflow_commands_ask_for_what_there_is(page, named):
    for line in re.findall(r"(?:^|`)(snakemake [^`#\n]*)", page.read_text(), re.MULTILINE):
        for word in line.split()[1:]:
            if word.startswith("scale="):
                assert word.removeprefix("scale=") in (*scales(ROOT / "config"), *MINE), line
            elif word.startswith("results/"):
                *folder, file = word.removeprefix("results/").split("/")
                scale = folder[0] if folder else "paper"
                if scale == "rated":  # a scale of the reader's own, without tables
                    assert folder[1:] == ["scores", "photos"] and file == "clip-iqa.csv", line
                    continue
                assert file.partition(".")[0] in named[scale], line
            elif word.endswith("_all"):
                assert word in WORKFLOW, line


@pytest.fixture(scope="session")
def trained(mixture, tmp_path_factory):
    """A folder with a small denoiser and a small classifier, where the demo leaves its own."""
    folder = tmp_path_factory.mktemp("trained")
    run = folder / "results/demo/runs/ambient-blur-0.6/seed-0"
    record, rows = SimpleNamespace(facts={}, state=None), folder / "rows.safetensors"
    Annotations(np.arange(100, 160), np.where(np.arange(60) < 20, 0.0, 0.5), np.zeros(60)).write(rows)
    train.main(TRAINING, record, data=mixture, annotations=rows, state=kept(folder / "state"),
               out=run / "denoiser.safetensors", log=run / "loss.jsonl")
    made = folder / "results/demo/classifiers/controlled/blur-0.6/balanced.safetensors"
    classifier.main(CLASSIFIER, record, data=mixture, state=kept(folder / "state-c"), out=made,
                    calibration=made.with_suffix(".json"))
    copied = folder / "results/demo/mixtures/controlled/blur-0.6/clean-0.008.safetensors"
    copied.parent.mkdir(parents=True)
    shutil.copyfile(mixture, copied)
    return folder


def test_the_notebook_runs(trained):
    """Each cell, in the notebook's own folder as in Jupyter, by small files where the demo leaves its own."""
    beside = trained / "docs/notebooks"
    beside.mkdir(parents=True)
    notebook = nbformat.read(ROOT / "docs/notebooks/method.ipynb", 4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "clear the outputs before committing"
    client = nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3",
                                     resources={"metadata": {"path": str(beside)}})
    client.execute(env=os.environ | {"PYTHONPATH": str(ROOT)})
    pictures = [out for cell in notebook.cells for out in cell.get("outputs", ())
                if "image/png" in out.get("data", {})]
    printed = "".join(out.get("text", "") for out in notebook.cells[-1].outputs)  # in whatever order it came
    assert len(pictures) == 3 and "loss of an image" in printed


def test_the_layout_shows_every_room_in_the_order_of_the_linter():
    """A room of the table stands at or below the layers of those before it; no room is left out."""
    table = (ROOT / "docs/layout.md").read_text().partition("## The rooms")[2].partition("\n## ")[0]
    rooms = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(one["layers"] for one in contracts if one["type"] == "layers")
    height = {room: -k for k, layer in enumerate(layers) for room in layer.split(" | ")}
    assert [height[room] for room in rooms] == sorted(height[room] for room in rooms)
    assert sorted(rooms) == sorted(path.parent.name for path in (ROOT / "ambient").glob("*/__init__.py"))


@pytest.mark.parametrize("code", examples())
def test_examples_run(code, trained):
    done = subprocess.run([sys.executable, "-c", code], cwd=trained, capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=120)
    assert done.returncode == 0, done.stderr


def laid_over(under: dict, over: dict) -> dict:
    """Two mappings as one, key by key; where both have a value that is no mapping, that of `over`."""
    both = under | over
    for key in under.keys() & over.keys():
        if isinstance(under[key], dict) and isinstance(over[key], dict):
            both[key] = laid_over(under[key], over[key])
    return both


@pytest.mark.parametrize("page", [page for page in PAGES if "```yaml" in page.read_text()], ids=name_of)
def test_settings_in_the_pages_are_read(page, tmp_path):
    """Each block with what stood before it on its page, as a scale; `extends` begins a new one."""
    shutil.copytree(ROOT / "config", tmp_path / "config", ignore=shutil.ignore_patterns("local.yaml"))
    known, read = {*scales(ROOT / "config")}, {}
    for block in yaml_blocks(page):
        one = yaml.safe_load(block)
        if block.startswith("# config/site.yaml"):
            (tmp_path / "config/site.yaml").write_text(block)
            read_site(tmp_path / "config")
            continue
        if "rows" in one or "blur-1.2" in one or one.get("extends", "paper") not in known:
            continue  # a part of a table's file or of data.yaml; a scale that `ambient new` has written
        read = one if "extends" in one else laid_over(read, one)
        (tmp_path / "config/scales/mine.yaml").write_text(yaml.safe_dump(read))
        Experiments(tmp_path / "config", "mine")


def test_the_doctor_counts_the_hours_of_a_small_scale():
    """Less than half an hour is not told as 0: the page of commands says 0.4."""
    done = subprocess.run([sys.executable, "-m", "ambient", "doctor", "tenth", "results/tenth/table2a.csv"],
                          cwd=ROOT, capture_output=True, text=True)
    assert "0.4 GPU-hours at 20 Tflop/s, counted" in (ROOT / "docs/commands.md").read_text()
    assert "files, 0.4 GPU-hours at 20 Tflop/s" in done.stdout, done.stdout + done.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages of docs/, built; any warning of the builder or of the docstrings' reader fails."""
    pytest.importorskip("mkdocstrings_handlers.python", reason="the extra `docs` is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True,
                          env=os.environ | {"NO_MKDOCS_2_WARNING": "1"})
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stdout + done.stderr
    return folder


def test_every_page_is_built_and_asks_nothing_of_the_network(site):
    for page in (ROOT / "docs").glob("*.md"):
        built = site / ("index.html" if page.stem == "index" else f"{page.stem}/index.html")
        text = built.read_text()
        fetched = re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=\"?(https?://[^\"> ]*)", text)
        assert fetched == [], page.name


def test_every_setting_is_described(site):
    """A field without a description is not on the page: its anchor is missing."""
    page = (site / "settings/index.html").read_text()
    for module, names in ((specs, specs.__all__), (entry_types, vars(entry_types))):
        for name in names:
            kind = getattr(module, name)
            for field in dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ():
                anchor = f"{module.__name__}.{name}.{field.name}"
                assert f'id="{anchor}"' in page, anchor
            for own in getattr(kind, "KINDS", {}).values():
                assert f'id="{own.__name__}.Spec"' in page, own.__name__
                for key in vars(own.Spec).get("__annotations__", {}).keys() & own.Spec.__match_args__:
                    assert f'id="{own.__name__}.Spec.{key}"' in page, key


def test_heads_of_tables_say_the_costs_that_are_counted():
    """`Cost at the paper's scale: 13 trainings of 25 M images, about 1,470 GPU-hours` of a table's file."""
    paper, heads = Experiments(ROOT / "config", "paper"), {}
    for file in (ROOT / "config/experiments").rglob("*.yaml"):
        text = file.read_text().replace("\n# ", " ")
        if head := re.search(r"(\d+) trainings of .*?about ([\d,]+) GPU-hours", text):
            heads[file.stem] = int(head[1]), int(head[2].replace(",", ""))
    assert {"table2a", "table2b", "table3", "table4", "table6", "table7", "text_results"} == set(heads)
    for table, (trainings, hours) in heads.items():
        works = list(plan.jobs(paper, f"results/{table}.csv"))
        counted = sum(work.minutes(Site()) / 60 for _, work in works if work.gpu)
        assert sum(stage == "train" for stage, _ in works) == trainings, table
        assert hours == pytest.approx(counted, rel=0.01), table


def last_place(number: str) -> float:
    """Of a number that is told to so many places: 100 of 24,500, and 0.1 of 8.7."""
    whole, _, places = number.replace(",", "").partition(".")
    return 10.0 ** (-len(places) or len(whole) - len(whole.rstrip("0")))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The scales `mine` and `xs`, the site file and the local paths that the pages show."""
    folder = tmp_path_factory.mktemp("written") / "config"
    shutil.copytree(ROOT / "config", folder, ignore=shutil.ignore_patterns("local.yaml", "site.yaml"))
    blocks = yaml_blocks(ROOT / "docs/cluster.md")
    for name, words in (("scales/mine.yaml", "blur-0.7"), ("scales/xs.yaml", "sweep-xs"),
                        ("site.yaml", "gpu_model")):
        (folder / name).write_text(next(block for block in blocks if words in block))
    return folder


@pytest.mark.parametrize("page, said, scale, target, tflops", [
    ("commands", r"counts (?P<jobs>89) jobs and (?P<hours>1,470) GPU-hours", "paper", "table2a", 20),
    ("commands", r"everything (?P<jobs>[\d,]+) jobs and (?P<hours>[\d,]+) GPU-hours, of which Table 1's ten "
                 r"trainings are (?P<train>[\d,]+)", "paper", "paper_all", 20),
    ("cluster", r"for (?P<hours>144) GPU-hours at 20 Tflop/s .`python -m ambient doctor mine", "mine",
     "table2a", 20),
    ("cluster", r"counts (?P<hours>187,000) GPU-hours[^.]*, and (?P<disk>[\d.]+) TB", "paper", "table1", 20),
    ("cluster", r"in bfloat16, it counts (?P<hours>[\d,]+);", "paper", "table1", 253),
    ("cluster", r"two rows, for (?P<hours>24,500) GPU-hours and (?P<disk>[\d.]+) TB", "xs", "table1", 20),
    ("cluster", r"counts (?P<hours>1,030) GPU-hours with this file", "paper", "table2a", None),
    ("cluster", r"counts (?P<hours>13,300) GPU-hours at 20 Tflop/s and (?P<disk>100) TB", "paper",
     "table9a", 20),
    ("data", r"takes \d+ TB of disk where it takes (?P<disk>100) TB from images", "paper", "table9a", 20)])
def test_costs_that_the_pages_name_are_those_that_are_counted(written, page, said, scale, target, tflops):
    found = Experiments(written, scale)
    place = Site(gpu_tflops=tflops) if tflops else read_site(written)
    works = list(plan.jobs(found, target))
    hours = [(stage, place.gpus * work.minutes(place) / 60) for stage, work in works if work.gpu]
    largest = sorted((spent for stage, spent in hours if stage == "train"), reverse=True)[:10]
    counted = {"jobs": len(works), "hours": sum(spent for _, spent in hours), "train": sum(largest),
               "disk": sum(plan.disk_bytes(found, target).values()) / 1e12}
    told = re.search(said, (ROOT / f"docs/{page}.md").read_text().replace("\n", " ")).groupdict()
    for what, number in told.items():
        value = float(number.replace(",", ""))
        assert abs(value - counted[what]) <= min(last_place(number) / 2, 0.01 * value), counted


def test_the_citation_is_one():
    """Keys that the Citation File Format 1.2.0 requires, and the paper's five authors."""
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["cff-version"] == "1.2.0" and {"message", "title", "authors"} <= cited.keys()
    assert cited["version"] == re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.M)[1]
    paper = cited["preferred-citation"]
    assert {"type", "title", "authors"} <= paper.keys() and paper["type"] == "article"
    names = [author["family-names"] for author in paper["authors"]]
    assert names == ["Daras", "Rodriguez-Munoz", "Klivans", "Torralba", "Daskalakis"]


def test_the_changelog_has_its_sections():
    """Keep a Changelog: versions below, the unreleased one first, each with sections of known names."""
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## (.*)", text, re.MULTILINE)
    sections = re.findall(r"^### (.*)", text, re.MULTILINE)
    assert versions[0] == "[Unreleased]"
    assert sections and set(sections) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_every_crop_is_where_crops_are_told():
    assert {"centre", "bicubic"} < {*CROPS}
    (row,) = [line for line in (ROOT / "docs/own-images.md").read_text().splitlines()
              if line.startswith("| another shape than a square |")]
    written = re.sub(r"\n *#", "", re.search(r"\n  # crop:(.*?\n)(?!  #)", new_scale.TEXT, re.DOTALL)[1])
    for name in CROPS:
        assert re.search(rf"[` ]{name}`", row), name
        assert f" {name} (" in written, name


def test_the_page_of_licences_names_every_encoder_and_source_from_outside():
    page = (ROOT / "docs/licences.md").read_text()
    paper = Experiments(ROOT / "config", "paper")
    outside = [*(name for name, one in paper.tree["encoders"].items() if one["kind"] == "sd_vae"),
               *(name for name, one in paper.tree["text_encoders"].items() if one["kind"] == "openclip")]
    shown = {"clip-b-32": "ViT-B/32", "clip-l-14": "ViT-L/14"}
    assert all(shown.get(name, f"`{name}`") in page for name in outside) and len(outside) == 5
    sources = {paper.label("datasets", name) for name in paper.tree["datasets"]
               if paper.dataset(name).source == "webdataset"}
    assert {label.split(",")[0] for label in sources} - set(re.findall(r"[\w-]+", page)) == set()
