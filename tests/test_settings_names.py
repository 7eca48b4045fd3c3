"""Entries that are like others, rows of tables, and the names that a scale brings itself."""

import re
from pathlib import Path

import pytest

from ambient.audit import shipped
from ambient.cluster import plan
from ambient.settings import Experiments
from ambient.settings.files import layers
from ambient.specs import strict
from ambient.specs.strict import SpecError
from tests.clones import configuration

ROOT = Path(__file__).parents[1]


@pytest.fixture
def config(tmp_path):
    return configuration(tmp_path / "config")


def scale(config, text, name="mine"):
    """The experiments of a scale that is written for the occasion."""
    (config / f"scales/{name}.yaml").write_text(text)
    return Experiments(config, name)


def refused(config, text, *words):
    """One line that names the scale's file and has all the words."""
    with pytest.raises(SpecError) as caught:
        scale(config, text)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"{config / 'scales/mine.yaml'}: "), message
    for word in words:
        assert word in message, message


def test_no_file_of_the_configuration_has_anchors_or_merge_keys(config):
    """They have misled: what is not in an anchor's map can't be seen where it is used."""
    paths = sorted(config.rglob("*.yaml"))
    assert len(paths) > 15
    for path in paths:
        text = re.sub(r'#.*|"[^"]*"', "", path.read_text())
        assert not re.search(r"(^|[\s\[{,])[&*][\w-]|<<:", text), path


def test_points_of_a_sweep_without_widths_have_those_of_their_runs(config):
    """The sweep's own word is stronger, and a run that says nothing has its study's width."""
    made = scale(config, """extends: demo
studies: {edm2-xs: {sampling: {ema_std: 0.05}}}
tables:
  mine:
    title: A sweep
    defaults: {study: edm2-xs, corruption: none, annotation: clean, sampling: {ema_std: 0.15}}
    sweeps: [free, told, fine]
    rows:
      narrow: {}
      wide: {sampling: {ema_std: 0.2}}
sweeps:
  free: {of: [narrow, wide, edm2-xs], guidances: [1.0, 1.4], sampling: {guide: {run: guide-xs}}}
  told: {of: [wide], guidances: [1.7, 2.0], sampling: {ema_std: 0.1, guide: {run: guide-xs}}}
  fine: {of: [wide], ema_stds: [0.1234561, 0.1234562]}
""")
    points = [row for name in ("free", "told", "fine") for row in made.named_sweep(name, "").rows]
    assert {row.run: (row.drawn.ema_std, row.drawn.guidance) for row in points} == {
        "narrow-g-1": (0.15, 1.0), "narrow-g-1.4": (0.15, 1.4),
        "wide-g-1": (0.2, 1.0), "wide-g-1.4": (0.2, 1.4),
        "edm2-xs-g-1": (0.05, 1.0), "edm2-xs-g-1.4": (0.05, 1.4),
        "wide-g-1.7": (0.1, 1.7), "wide-g-2": (0.1, 2.0),
        "wide-ema-0.1234561-g-1": (0.1234561, 1.0), "wide-ema-0.1234562-g-1": (0.1234562, 1.0)}
    assert made.sampling("wide-g-1.4").guide.ema_std == 0.2


# --- like -------------------------------------------------------------------------------------------


def test_a_scale_changes_what_a_study_shares_with_others(config):
    """Order of strength: the base's `pixel`, its `faces`; the scale's `pixel`, its `faces`."""
    made = scale(config, "studies:\n  pixel: {training: {optimiser: {lr: 0.5, batch: 64}}}\n"
                         "  faces: {training: {optimiser: {lr: 0.25}}}\n")
    paper = Experiments(config, "paper")
    faces, blurred = (made.training(run, 0) for run in ("faces-blur-0.6", "ambient-blur-0.6"))
    assert (faces.optimiser.lr, faces.optimiser.batch, blurred.optimiser.lr) == (0.25, 64, 0.5)
    theirs = paper.training("faces-blur-0.6", 0)
    assert faces.snapshots == theirs.snapshots and faces.optimiser.nimg == theirs.optimiser.nimg == 30_105_600


def test_a_stand_in_is_what_its_comment_says():
    """With anchors `small`'s faces resolved to FFHQ, which needs a licence."""
    small = Experiments(ROOT / "config", "small")
    assert small.study("faces").dataset == "cifar10"


def test_like_in_a_scale_is_stronger_than_what_the_base_says(config):
    made = scale(config, "datasets: {ffhq: {like: cifar10, label: faces}}\nstudies: {tenth: {like: faces}}\n")
    faces = made.dataset("ffhq")
    assert (faces.source, faces.resolution, faces.num_images) == ("cifar10", 32, 50_000)
    assert made.label("datasets", "ffhq") == "faces" and "FFHQ" in faces.about  # cifar10 says nothing of that
    assert made.study("tenth").dataset == "ffhq"  # and not what the base's `tenth` is like
    assert made.section("tenth", "training") == made.section("faces", "training")


def test_of_several_that_an_entry_is_like_the_last_is_the_strongest(config):
    made = scale(config, "extends: demo\nclassifiers:\n  a: {like: [leaky, length-5]}\n"
                         "  b: {like: [length-5, leaky]}\n  length-5: {holdout: 0.3}\n")
    a, b = made.classifier("controlled", "a"), made.classifier("controlled", "b")
    assert (a.holdout, b.holdout) == (0.3, 0.01)
    assert a.protocol == b.protocol == "leaky" and a.optimiser.nimg == b.optimiser.nimg == 25_600


@pytest.mark.parametrize(("text", "words"), [
    ("studies: {faces: {like: contrlled}}", ("studies.faces.like", "'contrlled'", "'controlled'")),
    ("studies: {mine: {like: mine}}", ("studies.mine.like", "mine is like mine")),
    ("studies: {mine: {like: [pixel, 3]}}", ("studies.mine.like", "no such name in studies: 3")),
    ("runs: {donut: {like: ambient-blur-0.6}}", ("runs.donut", "unknown key 'like'")),
    ("tables: {table2a: {like: table3}}", ("tables.table2a", "unknown key 'like'")),
])
def test_like_is_refused_for_what_can_not_be_taken_over(text, words, config):
    refused(config, f"{text}\n", *words)


def test_a_circle_of_likes_is_refused_by_one_that_is_in_it(config):
    with pytest.raises(SpecError, match=r"studies\.\w+\.like: got '\w+', .* is like \w+ is like"):
        scale(config, "studies: {pixel: {like: faces}}\n")


def test_an_error_names_the_file_and_the_entry_that_set_the_key(config):
    """Through `like`, `defaults` and presets: where a reader must change it."""
    refused(config, "extends: demo\nstudies: {pixel: {training: {optimiser: {lrr: 1.0}}}}\n",
            "'lrr' (did you mean 'lr'?)", "studies.pixel")
    refused(config, "extends: demo\nstudies: {pixel: {training: {optimiser: {lr: 1e-3}}}}\n",
            "training.optimiser.lr: got '1e-3'", "it stands in studies.pixel")
    refused(config, "extends: demo\ntables: {table2a: {defaults: {annotation: alll}}}\n", "'alll'", "'all'")
    refused(config, "extends: small\ndatasets: {photographs: {source: photos, resolution: 64}}\n",
            "mine.yaml: datasets.photographs: missing key 'crop' (allowed: centre, pad, adm, bicubic)")
    with pytest.raises(SpecError) as caught:
        scale(config, "extends: demo\nstudies: {faces: {training: {snapshots: [30000, 50000]}}}\n")
    assert str(caught.value).startswith(f"{config / 'scales/mine.yaml'}: studies.faces.training.snapshots")


def test_who_set_a_key_is_the_strongest_that_says_it(config):
    made = scale(config, "extends: demo\nstudies: {faces: {training: {optimiser: {clip: 2.0}}}}\n")
    optimiser = "studies.faces.training.optimiser"
    found = {key: made.entries.setter(f"{optimiser}.{key}") for key in ("clip", "lr", "nimg")}
    assert {key: (written.file.name, written.key) for key, written in found.items()} == {
        "clip": ("mine.yaml", "studies.faces"), "lr": ("demo.yaml", "studies.pixel"),
        "nimg": ("demo.yaml", "studies.faces")}
    assert made.entries.setter("studies.faces.training.loss.buffer").file.name == "studies.yaml"
    assert made.entries.setter("runs.ambient-blur-0.6.corruption").file.name == "table2a.yaml"
    assert made.entries.setter("runs.ambient-blur-0.6.study").key == "tables.table2a.defaults"
    assert made.entries.setter("studies.faces.training.nothing") is None


# --- rows and tables --------------------------------------------------------------------------------


def test_a_table_is_one_file_and_a_row_one_line(config):
    """Counted: one file more, one line more, and nothing else is touched."""
    path = config / "experiments/pixel/table9.yaml"
    path.write_text("title: Motion\ndefaults: {study: controlled, annotation: per-sample}\nrows:\n"
                    "  only-clean: {of: table2a}\n  motion-four: {corruption: motion-4, paper: {fid: 4.5}}\n")
    made = Experiments(config, "paper")
    of_captions = ["table9a", "table9b", "vendi"]
    assert list(made.tables)[-5:] == ["table9", "text_results", *of_captions]
    clean, motion = made.tables["table9"].rows
    assert clean.paper == {"fid": 8.79} and motion.paper == {"fid": 4.5} and motion.method == "Ambient-o"
    path.write_text(path.read_text() + "  motion-two: {corruption: motion-2}\n")
    assert [row.run for row in Experiments(config, "paper").tables["table9"].rows] == [
        "only-clean", "motion-four", "motion-two"]
    table = config / "experiments/pixel/table10.yaml"
    table.write_text("title: Later\nrows: {motion-two: {of: table9}}\n")
    assert list(Experiments(config, "paper").tables)[-6:] == [
        "table9", "table10", "text_results", *of_captions]


@pytest.mark.parametrize(("text", "words"), [
    ("title: T\nrows: {only-clean: {corruption: none}}", ("rows.only-clean", "{of: table2a}")),
    ("title: T\nrows: {only-clean: {of: table3}}", ("rows.only-clean.of", "no such row in table3")),
    ("title: T\nrows: {only-clean: {of: table2a, label: x}}", ("rows.only-clean", "nothing beside of")),
    ("title: T\nrows: {only-cleen: {of: table2a}}", ("'only-cleen' (did you mean 'only-clean'?)",)),
    ("title: T\nrow: {only-clean: {of: table2a}}", ("unknown key 'row'", "'rows'")),
    ("title: T\nrows: 3", ("tables.table9.rows", "got 3", "a list of names")),
    ("title: T\nrows: [[1]]", ("tables.table9.rows", "got [1]", "{name: its settings}")),
    ("title: T\ndefaults: 3\nrows: {a: {study: dogs}}", ("tables.table9.defaults", "got 3")),
    ("title: T\nrows: {a: {study: dogs, corruption: none}}", ("runs.a", "missing key 'annotation'")),
    ("title: T\nrows: {only-clean: null}", ("no row 'only-clean' to leave out",)),
    ("rows: {only-clean: {of: table2a}}\nstudies: {}", ("unknown key 'studies'",)),
])
def test_slips_in_the_file_of_a_table(text, words, config):
    path = config / "experiments/pixel/table9.yaml"
    path.write_text(f"{text}\n")
    with pytest.raises(SpecError) as caught:
        Experiments(config, "paper")
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"{path}: "), message
    assert all(word in message for word in words), message


def test_a_name_stands_in_one_file(config):
    (config / "experiments/pixel/more.yaml").write_text("studies: {dogs: {like: cats}}\n")
    with pytest.raises(SpecError, match=r"more\.yaml: studies: 'dogs' stands in .*studies\.yaml too"):
        Experiments(config, "paper")


def test_a_scale_changes_rows_leaves_them_out_and_brings_its_own(config):
    made = scale(config, "extends: demo\ntables:\n  table2a:\n    defaults: {label: Ours}\n    rows:\n"
                         "      only-clean: null\n      all-data-blur-0.8: {label: All}\n"
                         "      two: {corruption: blur-0.4}\n  table3: null\n"
                         "  table4: {rows: [faces-blur-0.6, one: {corruption: jpeg-15, annotation: all}]}\n")
    rows = {row.run: row for row in made.tables["table2a"].rows}
    assert list(rows) == ["all-data-blur-0.6", "ambient-blur-0.6", "all-data-blur-0.8", "two"]
    assert [row.method for row in rows.values()] == ["Ours", "Ours", "All", "Ours"]
    assert rows["two"].parameters == {"sigma_px": 0.4} and rows["two"].paper == {}
    assert "table3" not in made.tables
    assert [row.run for row in made.tables["table4"].rows] == ["faces-blur-0.6", "one"]
    assert made.run("one").study == "faces"


@pytest.mark.parametrize(("text", "words"), [
    ("runs: {only-clean: {paper: {sigma_mim: 2.0}}}",
     ("runs.only-clean.paper: unknown key 'sigma_mim' (did you mean 'sigma_min'?)",)),
    ("runs: {text-all: {paper: {clip-score_maen: 0.3}}}", ("(did you mean 'clip-score_mean'?)",)),
    ("runs: {text-all: {paper: {geneval_colors_attr: 0.3}}}", ("(did you mean 'geneval_color_attr'?)",)),
    ("runs: {edm2-xs: {paper: {fd-dino2_guided: 80}}}", ("(did you mean 'fd-dinov2_guided'?)",)),
    ("runs: {only-clean: {paper: {fid: '8.79'}}}", ("runs.only-clean.paper.fid: got '8.79'", "a number")),
    ("runs: {donut: {also: [{corruption: none}]}}", ("runs.donut.also[0]: missing key 'annotation'",)),
    ("runs: {only-clean: {note: 3}}", ("runs.only-clean.note: got 3, allowed: text",)),
    ("studies: {controlled: {paper: {data: x}}}", ("unknown key 'data' (did you mean 'dataset'?)",)),
    ("studies: {controlled: {clean_fraction: half}}", ("clean_fraction: got 'half', allowed: a number",)),
    ("studies: {controlled: {detector: []}}", ("studies.controlled.detector: got ()", "a list of several")),
    ("studies: {controlled: {detector: [digitnet, digitnet]}}", ("'digitnet' is in it twice",)),
    ("tables: {table2a: {title: 3}}", ("tables.table2a.title: got 3, allowed: text",)),
    ("tables: {table2a: {titel: x}}", ("unknown key 'titel' (did you mean 'title'?)",)),
    ("figures: {figure11b: {images: 3.5}}", ("figures.figure11b.images: got 3.5, allowed: a whole number",)),
    ("figures: {figure24: {shown: both}}", ("figures.figure24.shown: got 'both', allowed: other, target",)),
    ("figures: {figure3: {corruption: [x]}}", ("unknown key 'corruption' (did you mean 'corruptions'?)",)),
    ("in_text: {cifar_runtime: {tabel: x}}", ("unknown key 'tabel' (did you mean 'table'?)",)),
    ("in_text: {cifar_runtime: {paper: fast}}", ("in_text.cifar_runtime.paper: got 'fast'", "a number")),
    ("main: {tables: table2a}", ("main.tables: got 'table2a', allowed: a list",)),
])
def test_entries_are_checked_like_specifications(text, words, config):
    refused(config, f"extends: demo\n{text}\n", *words)


def test_a_scale_leaves_out_figures_and_numbers(config):
    made = scale(config, "extends: demo\nfigures: {figure24: null}\nin_text: {cifar_runtime: null}\n")
    assert "figure24" not in made.figures and "figure22" in made.figures
    assert "cifar_runtime" not in {text.id for text in made.summary().texts}
    assert "figure24" not in {figure.name for figure in made.report(True).figures}


# --- names of a scale's own -------------------------------------------------------------------------


OWN = """\
extends: small
datasets:
  good:
    {source: images, path: /photos/good, resolution: 32, channels: 3, labels: none, label: good photographs}
  poor: {like: good, path: /photos/poor, label: poor photographs}
corruptions:
  plus-poor: {op: add, dataset: poor}
studies:
  mine: {like: pixel, dataset: good, clean_fraction: 1.0}
tables:
  mine:
    title: Good and poor photographs
    defaults: {study: mine, corruption: plus-poor}
    rows:
      good-only: {corruption: none, annotation: clean}
      all-alike: {annotation: all}
      ambient: {annotation: per-sample}
main: {tables: [mine]}
"""


def test_own_names_are_one_file(config):
    """Nothing of the repository is edited, and all jobs can be planned."""
    made = scale(config, OWN)
    assert made.main == ["mine"] and [row.run for row in made.tables["mine"].rows] == [
        "good-only", "all-alike", "ambient"]
    assert made.dataset("poor").path == "/photos/poor" and made.dataset("poor").resolution == 32
    mixture = made.mixture("mine", "plus-poor", made.fraction("mine"))
    assert (mixture.op, mixture.params, mixture.clean_fraction) == ("add", {"dataset": "poor"}, 1.0)
    assert made.classifier("mine", "balanced").recalibrate == "bias"  # of `small`
    assert made.tables["mine"].rows[2].paper == {} and made.tables["mine"].rows[2].paper_target is None
    stages = {job.kind for job in plan.wanted(made, "mine")}
    assert {"prepare", "corrupt", "classifier", "annotate", "train", "sample", "evaluate"} <= stages
    assert all(not strict.to_json(made.training(run, 0)).count("/photos") for run in ("good-only", "ambient"))


@pytest.mark.parametrize(("text", "words"), [
    ("datasets: {cifar: {path: /x}}",
     ("'cifar' (did you mean 'cifar10'?)", "source, resolution, channels, or like")),
    ("corruptions: {blurr-0.6: {sigma_px: 3.0}}", ("'blurr-0.6' (did you mean 'blur-0.6'?)", "op, or like")),
    ("detectors: {digit-net: {nimg: 128}}", ("'digit-net' (did you mean 'digitnet'?)",)),
    ("classifiers: {lenght-5: {optimiser: {nimg: 640}}}", ("'lenght-5' (did you mean 'length-5'?)",)),
    ("annotations: {per-sampel: {epsilon: 0.1}}", ("'per-sampel' (did you mean 'per-sample'?)",)),
    ("studies: {controled: {training_seeds: [1]}}", ("'controled' (did you mean 'controlled'?)",)),
    ("runs: {only-cleen: {label: x}}", ("runs: unknown name 'only-cleen' (did you mean 'only-clean'?)",)),
    ("tables: {tabel2a: {rows: [only-clean]}}", ("'tabel2a' (did you mean 'table2a'?)", "title, rows")),
    ("tables: {table2a: {rows: {only-cleen: {label: x}}}}", ("'only-cleen' (did you mean 'only-clean'?)",)),
    ("figures: {figur2: {images: 3}}", ("'figur2' (did you mean 'figure2'?)", "title, kind, or like")),
    ("in_text: {fig2_crosing: {paper: 1.0}}", ("'fig2_crosing' (did you mean 'fig2_crossing'?)",)),
    ("main: {table: [table2a]}", ("'table' (did you mean 'tables'?)",)),
    ("studdies: {}", ("unknown key 'studdies' (did you mean 'studies'?)",)),
    ("tables: {table2a: {rows: {a/b: {corruption: none, annotation: clean, label: x}}}}",
     ("tables.table2a.rows: the name: got 'a/b'", "small letters")),
    ("datasets: {digits: {sha256: abc}}", ("datasets.digits.sha256: got 'abc'", "64 digits")),
    ("datasets: {My photos: {like: cifar10}}", ("datasets: the name", "'My photos'", "small letters")),
])
def test_a_misspelt_name_is_no_new_one(text, words, config):
    refused(config, f"extends: demo\n{text}\n", *words)


@pytest.mark.parametrize(("text", "name"), [
    ("figures: {table2a-grid: {like: figure2}}", "figures: the name: got 'table2a-grid'"),
    ("tables: {table2a-grid: {title: x, rows: [only-clean]}}", "tables: the name: got 'table2a-grid'")])
def test_no_picture_is_that_of_two(text, name, config):
    message = f"{name}, allowed: another one: table2a-grid.png is a picture of tables.table2a"
    with pytest.raises(SpecError, match=re.escape(message)):
        scale(config, f"extends: demo\n{text}\n")


def test_this_machines_paths_are_of_datasets_that_exist(config):
    (config / "local.yaml").write_text("datasets: {cifar: {path: /data}}\n")
    with pytest.raises(SpecError, match=r"local\.yaml: datasets: unknown name 'cifar' \(did you"):
        layers(config, "demo")


def test_this_machines_paths_may_be_of_entries_that_one_scale_brings(config):
    """local.yaml lies over every scale. One without the entry, or without what it is like, leaves it out."""
    (config / "scales/mine.yaml").write_text(
        "extends: demo\ndatasets: {photos: {source: images, resolution: 32, channels: 3}}\n")
    (config / "local.yaml").write_text(
        "datasets:\n  photos: {path: /photos}\n  photos-old: {like: photos, path: /old}\n"
        "  cifar10: {path: /c.zip}\n")
    assert Experiments(config, "mine").dataset("photos").path == "/photos"
    assert Experiments(config, "mine").dataset("photos-old").path == "/old"
    for other in ("demo", "small", "paper"):
        found = Experiments(config, other)
        assert found.dataset("cifar10").path == "/c.zip"
        assert not {"photos", "photos-old"} & set(found.entries.names("datasets"))
    (config / "local.yaml").write_text("datasets: {photo: {path: /photos}}\n")
    with pytest.raises(SpecError, match=r"local\.yaml: datasets: unknown name 'photo'"):
        Experiments(config, "demo")


def test_the_files_of_a_scale_go_with_its_results():
    """All that it is laid over, nothing of this machine; of a scale that is gone, what all have."""
    mine, gone = shipped.scale_files("demo3"), shipped.scale_files("gone")
    assert mine == [*gone, "config/scales/demo.yaml", "config/scales/demo3.yaml"]
    assert {"config/data.yaml", "config/studies.yaml", "config/experiments/pixel/table2a.yaml"} < set(gone)
    assert not any("local" in name or "example" in name or "scales" in name for name in gone)
