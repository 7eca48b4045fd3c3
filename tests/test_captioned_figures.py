"""Figures of images with captions: by caption, by a judge's preference, by the quality of their sources."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from results_tree import audit, problems, record, remake

from ambient.audit import rerun
from ambient.data.datasets import Dataset, write
from ambient.data.scores import Scores
from ambient.data.texts import Texts
from ambient.report import figures
from ambient.report.drawing import plt
from ambient.settings import Experiments
from ambient.specs import FigureSpec
from ambient.specs.strict import SpecError, build, plain
from ambient.stages import crops_figures
from ambient.storage.files import write_arrays, write_json

NOTHING = ("data", "added", "annotations", "patches", "locality_table")  # of files, for a figure of answers

ROOT = Path(__file__).parents[1]
COMMON = {
    "names": (),
    "corruptions": (),
    "noise": {"P_mean": 0.0, "P_std": 1.0},
    "epsilon": 0.05,
    "buffer": None,
    "crop_sigma": 0.001,
    "images": 3,
    "seed": 0,
    "title": "T",
}


@pytest.fixture
def files(tmp_path):
    """Samples of two runs, which say in their greys which they are: 8 of 4 captions, 2 each."""
    captions = Texts.of(["a star", "two hearts", "a red ring", "a moon"])
    write(
        tmp_path / "captions.safetensors",
        Dataset(np.zeros((4, 1, 8, 8), np.uint8), np.zeros(4, int), np.arange(4), captions=captions),
    )
    for number in range(2):
        grey = (np.arange(8) + 100 * number).astype(np.uint8)[None, :, None, None, None]
        images = np.broadcast_to(grey, (1, 8, 1, 8, 8)).copy()
        write_arrays(tmp_path / f"samples-{number}.safetensors", {"16": images, "8": images * 0})
        write_arrays(
            tmp_path / f"scores-{number}.safetensors", {"score": np.array([[1.0, 1.25, 1.5, 2.0]]) + number}
        )
    yield tmp_path
    plt.close("all")


def shown(figure):
    """(title, first grey of each picture) of each row."""
    return [
        (axis.get_title("left"), axis.get_images()[0].get_array()[0, ::8].tolist()) for axis in figure.axes
    ]


def test_runs_are_shown_by_caption(files):
    given = {
        "data": files / "captions.safetensors",
        "samples": [files / f"samples-{k}.safetensors" for k in (0, 1)],
    }
    own = {"runs": ("a", "b"), "labels": ("A", "B"), "each": 2}
    figure = figures.KINDS["by_caption"].draw(FigureSpec("by_caption", **COMMON, **own), **given)
    assert shown(figure) == [("A", [0, 2, 4]), ("B", [100, 102, 104])]
    assert "a star; two hearts; a red ring." in figure._supxlabel.get_text().replace("\n", " ")
    scored = [files / f"scores-{k}.safetensors" for k in (0, 1)]
    spec = FigureSpec("by_caption", **COMMON, **own, together=True, captions=2, scorer="vendi")
    figure = figures.KINDS["by_caption"].draw(spec, **given, scored=scored)
    assert shown(figure) == [
        ("a star, A: Vendi score 1.00 of 2", [0, 1, 255]),
        ("a star, B: Vendi score 2.00 of 2", [100, 101, 255]),
        ("two hearts, A: Vendi score 1.25 of 2", [2, 3, 255]),
        ("two hearts, B: Vendi score 2.25 of 2", [102, 103, 255]),
    ]


def test_preferences_are_bars_of_all_training_seeds(tmp_path):
    """Two seeds: 3 of 4 and 1 of 4 pairs; the judge is right in 0.9 and 0.7 of its checks."""
    for seed, (wins, right) in enumerate(((3, 0.9), (1, 0.7))):
        pairs = [{"caption": "a star", "verdict": "run" if k < wins else "than"} for k in range(4)]
        (tmp_path / f"{seed}.json").write_text(
            json.dumps({"pairs": pairs, "checks": [{}] * 10, "agreement": right})
        )
    spec = FigureSpec(
        "preferences",
        **COMMON,
        judge="eye",
        than="b",
        labels=("Ambient-o", "All data"),
        judged_by="alignment",
        lists=(),
    )
    figure = figures.KINDS["preferences"].draw(spec, [tmp_path / "0.json", tmp_path / "1.json"])
    (axis,) = figure.axes
    widths = [bar.get_width() for bar in axis.patches]
    assert widths == [50.0, 50.0, 50.0, 50.0]
    assert [text.get_text() for text in axis.get_yticklabels()] == [
        "all prompts\n8 pairs, 0 ties",
        "single object\n8 pairs, 0 ties",
    ]
    assert "Of 10 pairs of real images it prefers the right one in 80.0%" in figure._supxlabel.get_text()
    plt.close("all")


@pytest.mark.parametrize(
    ("wins", "ties", "losses", "printed"),
    [(8, 0, 2, (80, 20)), (9, 0, 1, (90, 10)), (29, 0, 21, (58, 42)), (0, 7, 3, (35, 65))],
)
def test_percents_of_a_bar_are_whole_pairs_rounded_down(wins, ties, losses, printed):
    """Of the paper's bars 80 and 20 are of ten prompts; 1 - 0.8 is less than 0.2 in floating point."""
    row = {"wins": wins, "ties": ties, "losses": losses, "pairs": wins + ties + losses}
    assert figures.KINDS["preferences"].percent(row) == printed


@pytest.mark.parametrize("kind", ["endpoint", "command", "alignment"])
def test_the_audit_draws_the_bars_again_and_asks_nobody(tree, kind):
    """From the kept answers: one that is changed, with all digests made to fit, shows itself. A judge from
    outside is not asked again when jobs are run again."""
    answers, out, pdf = tree / "judged/eye/ambient/b/seed-0.json", tree / "figure7.png", tree / "figure7.pdf"
    pairs = [{"caption": "a star", "verdict": verdict} for verdict in ("run", "run", "than", "unclear")]
    write_json(answers, {"pairs": pairs, "checks": [], "agreement": None})
    ours, theirs = (tree / f"runs/{run}/seed-0/samples.safetensors" for run in ("ambient", "all-data"))
    read = {"samples": ours, "than": theirs, "captions": tree / "data/digits.safetensors"}
    asked = {"kind": kind} | ({"address": "http://nowhere/", "model": "m"} if kind == "endpoint" else {})
    record("judge", {"out": answers}, read, asked)
    own = {"judge": "eye", "than": "b", "labels": ("Ambient-o", "All data"), "judged_by": kind, "lists": ()}
    spec = build(FigureSpec, plain({"kind": "preferences", **COMMON, **own}), "f")
    crops_figures.main(spec, None, **dict.fromkeys(NOTHING), out=out, out_pdf=pdf, judged=[answers])
    record("crops_figures", {"out": out, "out_pdf": pdf}, {"judged": [answers]}, plain(spec))
    found = audit(out)
    assert (found.results[out].level, found.results[out].problems) == (3, [])
    assert rerun.of_workflow(found.results[answers]) == (kind == "alignment")
    write_json(answers, {"pairs": pairs[:2], "checks": [], "agreement": None})
    remake(tree, {})
    assert ("figure7.png", "differs") in problems(out)


def test_preferences_on_several_lists_stand_below_each_other(tmp_path):
    """Two lists of one seed each: 3 of 4 and 1 of 2 pairs, with the published share of a category."""
    for name, group, verdicts in (("a", "Colors", "rrrt"), ("b", "Animals", "rt")):
        sides = {"r": "run", "t": "than"}
        pairs = [{"caption": "", "group": group, "verdict": sides[one]} for one in verdicts]
        (tmp_path / name).write_text(json.dumps({"pairs": pairs, "checks": [], "agreement": None}))
    own = {"judge": "eye", "than": "b", "labels": ("Ambient-o", "All data"), "judged_by": "endpoint"}
    pair = {"run": "c", "than": "d"}
    values = {"kind": "preferences", **COMMON, **own, "lists": ("DrawBench", "PartiPrompts"), "also": [pair]}
    spec = build(FigureSpec, plain(values | {"paper": {"Colors": 72}}), "f")
    figure = figures.KINDS["preferences"].draw(spec, [tmp_path / "a", tmp_path / "b"])
    (axis,) = figure.axes
    assert [text.get_text().partition("\n")[0] for text in axis.get_yticklabels()] == [
        "DrawBench, all prompts",
        "Colors",
        "PartiPrompts, all prompts",
        "Animals",
    ]
    assert [bar.get_width() for bar in axis.patches][:4] == [75.0, 75.0, 50.0, 50.0]
    marks = next(one for one in axis.collections if one.get_label() == "the paper's").get_offsets()
    assert marks.compressed().tolist()[:1] == [72.0]
    assert "It was not checked" in figure._supxlabel.get_text()
    with pytest.raises(SpecError, match=re.escape("paper.Text: got 101.0, allowed: [0, 100]")):
        build(FigureSpec, plain(values | {"paper": {"Text": 101}}), "f")
    plt.close("all")


def test_a_figure_of_a_part_of_a_source_names_the_part_and_its_seed():
    """Figures 26 to 29 are of 50,000 images each; the demo's are of whole sources."""
    paper, demo = (Experiments(ROOT / "config", scale) for scale in ("paper", "demo"))
    assert [paper.figure(f"figure{number}").labels for number in (26, 27, 28, 29)] == [
        (f"{name} (50,000 images of {count}, drawn by seed 0)",) for name, count in (
            ("CC12M", "12,000,000"), ("SA-1B", "11,100,000"), ("DiffusionDB", "10,700,000"),
            ("JourneyDB", "4,200,000"))]
    assert demo.figure("figure26").labels == ("scenes", "poor scenes")


def test_sources_are_ranked_each_by_itself(tmp_path):
    level = np.random.default_rng(0).permutation(20)
    for name, bright in (("good", 100), ("poor", 0)):
        images = np.broadcast_to((level + bright)[:, None, None, None], (20, 1, 8, 8)).astype(np.uint8).copy()
        write(tmp_path / f"{name}.safetensors", Dataset(images, np.zeros(20, int), np.arange(20)))
        Scores(np.arange(20), level / 10 + bright, {}, {}).write(tmp_path / f"{name}-scores.safetensors")
    spec = FigureSpec(
        "sources",
        **COMMON,
        scorer="s",
        datasets=("good", "poor"),
        labels=("good ones", "poor ones"),
        levels=(0.0, 2.0),
    )
    figure = figures.KINDS["sources"].draw(
        spec,
        [tmp_path / f"{name}.safetensors" for name in ("good", "poor")],
        [tmp_path / f"{name}-scores.safetensors" for name in ("good", "poor")],
    )
    *pictures, histogram = figure.axes
    greys = [axis.get_images()[0].get_array()[0, ::8].tolist() for axis in pictures]
    assert greys == [[119, 118, 117], [100, 101, 102], [19, 18, 17], [0, 1, 2]]
    assert pictures[0].get_title("left") == "good ones, the best: s 102 to 102"
    assert pictures[3].get_title("left").endswith("= 2), the worst: s 0.2 to 0")
    assert [text.get_text() for text in histogram.get_legend().get_texts()] == [
        "good ones, 20 images",
        "poor ones, 20 images",
    ]
    plt.close("all")
