"""Samples of captions at the demo scale: what jobs are told and read, and what is refused."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from ambient.audit import drawn
from ambient.cluster.cost import Costs
from ambient.data.prompt_forms import TASKS
from ambient.settings import Experiments
from ambient.settings.captioned import check_judge
from ambient.settings.compatible import check_measured
from ambient.settings.compatible_data import check_model
from ambient.settings.graph import Graph
from ambient.specs.evaluation import AgainstSpec
from ambient.specs.strict import SpecError
from tests.clones import configuration

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def demo():
    """The demo, and a text encoder that sees no images."""
    made = Experiments(ROOT / "config", "demo")
    made.tree["text_encoders"]["blind"] = {"kind": "openclip"}
    return made


def told(demo, path):
    graph = Graph(demo)
    job = graph.maker(path)
    return graph.asks(job), graph.reads(job)


def test_what_jobs_of_captions_are_told_and_read(demo):
    """Scores know how many samples have a caption together; a judge of two runs reads the samples of both."""
    run = "results/demo/runs/text-all/seed-0"
    spec, reads = told(demo, f"{run}/scores-clip-score.safetensors")
    assert spec.each == demo.sampling("text-all").captions_each == 4
    assert reads == {
        "samples": [f"{run}/samples.safetensors"],
        "real": ["results/demo/data/scenes-held.safetensors"],
        "model": ["results/demo/text-encoders/scene-model.safetensors"],
        "captions": ["results/demo/data/scene-prompts.safetensors"],
    }
    spec, reads = told(demo, "results/demo/runs/vendi-tuned/seed-0/scores-vendi.safetensors")
    assert (spec.each, spec.asked.kind, spec.asked.model) == (16, "contrastive", "scene-model-2")
    assert reads["captions"] == ["results/demo/data/scene-few.safetensors"]
    (detector,) = reads["detector"]
    assert told(demo, detector)[1]["model"] == ["results/demo/text-encoders/scene-model-2.safetensors"]
    _, reads = told(demo, f"{run}/scores-geneval.safetensors")
    assert reads["detector"] == ["results/demo/detectors/shapes/shapenet.weights"]
    spec, reads = told(demo, "results/demo/judged/scene-judge/text-ambient/text-all/seed-0.json")
    assert (spec.kind, spec.each, spec.checks) == ("alignment", 4, 400)
    assert reads["samples"] == ["results/demo/runs/text-ambient/seed-0/samples.safetensors"]
    assert reads["than"] == [f"{run}/samples.safetensors"]


def test_ones_own_captioned_images_train_microdit_tiny():
    """Scale `captioned`: two folders of pairs, the network of `microdit-tiny`, a fine-tuning on good ones."""
    own = Experiments(ROOT / "config", "captioned")
    graph = Graph(own)
    jobs = graph.behind(["results/captioned/table9a.csv", "results/captioned/figure1-text.png"])
    assert {job.names["dataset"] for job in jobs if job.kind == "prepare"} == {"captioned", "captioned-old"}
    assert (own.dataset("captioned").sigma_min, own.dataset("captioned-old").sigma_min) == (0.0, 2.0)
    tiny, network = (own.training(run, 0).network for run in ("text-all", "text-ambient"))
    assert tiny == network and (tiny.model_channels, tiny.depth, tiny.mixer_channels, tiny.mixer_depth) == (
        512, 16, 512, 4)
    tuned, = (job for job in jobs if job.kind == "train" and job.names["run"] == "text-tuned")
    assert graph.reads(tuned)["start"] == ["results/captioned/runs/text-all/seed-0/denoiser.safetensors"]
    assert own.tables["table9a"].asked == ({"model": "captioned-model"}, {"model": "captioned-model-2"})


def test_phases_are_trained_with_any_seeds(tmp_path):
    """What does not depend on a seed is asked of a run's first one, so that no run needs the seed 0."""
    config = configuration(tmp_path / "config")
    (config / "scales/seeds.yaml").write_text("extends: demo\nstudies: {text: {training_seeds: [3, 5]}}\n")
    made = Experiments(config, "seeds")
    assert made.training("text-tuned", 5).start == made.training("text-tuned", 3).start
    assert made.first_training("text-tuned").seed == 3 and made.first_training("only-clean").seed == 0
    graph = Graph(made)
    starts = {graph.reads(job)["start"][0] for job in graph.behind(["results/seeds/table9a.csv"])
              if job.kind == "train" and job.names["run"] == "text-tuned"}
    assert starts == {f"results/seeds/runs/text-all/seed-{seed}/denoiser.safetensors" for seed in (3, 5)}
    assert Costs(made).train("text-tuned") == Costs(Experiments(config, "demo")).train("text-tuned")
    (config / "scales/seeds.yaml").write_text(
        "extends: demo\nstudies: {text: {training_seeds: [3]}, other: {like: text, training_seeds: [4]}}\n"
        "tables: {table9a: {rows: {text-tuned: {study: other}}}}\n")
    with pytest.raises(SpecError, match="start.run: got 'text-all', allowed: a run that is trained with the "
                                        "seed 4, as text-tuned is"):
        Experiments(config, "seeds")


# Steps of 2,048 images, pixels, share of patches left out, rate, its ramp in steps, what it falls to, largest
# norm of the gradient, mean and width of ln sigma, and whether it goes on with Adam's moments.
PHASES = {
    "-1": (250_000, 256, 0.75, 2.4e-4, 2_500, 0.33, 0.25, -0.6, 1.2, None),
    "-2": (30_000, 256, 0.0, 8e-5, 0, 0.0, 0.25, -0.6, 1.2, True),
    "-3": (50_000, 512, 0.75, 8e-5, 500, 0.0, 0.5, 0.0, 0.6, False),
    "": (5_000, 512, 0.0, 8e-5, 0, 0.0, 0.5, 0.0, 0.6, True),
}


def test_a_table_of_the_paper_is_made_in_four_phases():
    """Ten trainings behind three rows: four phases of two arms, and two more of the fine-tuned one."""
    paper = Graph(Experiments(ROOT / "config", "paper"))
    found = paper.experiments
    runs = {job.names["run"] for job in paper.behind(["results/table9a.csv"]) if job.kind == "train"}
    arms = {f"text-{arm}{phase}" for arm in ("all", "ambient") for phase in PHASES}
    assert runs == arms | {"text-tuned", "text-tuned-3"}
    assert [found.phases_before(run) for run in ("text-ambient", "text-tuned")] == [
        ["text-ambient-3", "text-ambient-2", "text-ambient-1"],
        ["text-tuned-3", "text-all-2", "text-all-1"],
    ]
    for run in runs:
        steps, side, mask, lr, ramp, least, clip, mean, width, moments = PHASES[
            run[-2:] if "-" in run[-2:] else ""
        ]
        spec = found.training(run, 0)
        rate = spec.optimiser
        assert found.dataset(found.study(found.run(run).study).dataset).resolution == side
        assert (rate.nimg, rate.batch, rate.lr, rate.ramp_nimg) == (2048 * steps, 2048, lr, 2048 * ramp)
        assert (rate.decay_to, rate.clip, spec.mask, spec.caption_dropout) == (least, clip, mask, 0.1)
        assert (rate.algorithm, rate.weight_decay, rate.betas, rate.eps) == ("adamw", 0.1, (0.9, 0.999), 1e-8)
        assert (spec.noise.P_mean, spec.noise.P_std, spec.sigma_data, spec.loss.margin) == (
            mean,
            width,
            0.9,
            0.05,
        )
        assert (spec.start and spec.start.moments) == moments and spec.posterior == "fixed"
        kind = spec.network
        assert (kind.model_channels, kind.depth, kind.mixer_channels, kind.mixer_depth) == (1024, 28, 768, 6)
        assert kind.position_scale == side / 256
    whole = found.training("text-ambient", 0)
    assert whole.seen + whole.optimiser.nimg == 2048 * 335_000
    poor = "results/paper/annotations/{}/plus-diffusiondb{}/by-source.safetensors"
    levels = [
        paper.asks(paper.maker(poor.format(*one))).sigma_min for one in (("text", ""), ("text-256", "-256"))
    ]
    assert levels == [2.0, 2.0]
    drawn = found.sampling("text-ambient")
    assert (drawn.num_samples, drawn.guidance, drawn.guide.told, drawn.sampler.num_steps) == (
        30_000,
        1.5,
        False,
        30,
    )


@pytest.fixture(scope="module")
def paper():
    return Experiments(ROOT / "config", "paper")


def test_table_9a_has_a_spread_at_the_papers_scale(paper, demo):
    """Of three sets of COCO's samples; the prompts of other tables and figures are drawn once."""
    for found, seeds in ((paper, (0, 1, 2)), (demo, (0,))):
        rows = [row.run for row in found.tables["table9a"].rows]
        assert {found.sampling(run).seeds for run in rows} == {seeds}
        assert found.evaluation(rows[0]).seeds == seeds and found.sampling("geneval-all").seeds == (0,)


def test_jobs_of_the_papers_scores_of_captions(paper):
    """GenEval asks a detector and a CLIP, CLIP-FD the image tower of one, and a table names all of them."""
    run = "results/paper/runs/geneval-ambient/seed-0"
    spec, reads = told(paper, f"{run}/scores-geneval.safetensors")
    assert (spec.each, spec.asked.kind, spec.model, spec.real) == (4, "mask2former", "clip-l-14", None)
    assert reads == {
        "samples": [f"{run}/samples.safetensors"],
        "detector": ["results/paper/detectors/textcaps/mask2former.weights"],
        "model": ["results/paper/text-encoders/clip-l-14.safetensors"],
        "captions": ["results/paper/data/geneval-prompts.safetensors"],
    }
    _, reads = told(paper, "results/paper/detectors/textcaps/clip-coco.weights")
    assert reads["model"] == ["results/paper/text-encoders/clip-b-32.safetensors"]
    spec, reads = told(paper, "results/paper/detectors/coco/clip-coco-reference.safetensors")
    assert reads["detector"] == ["results/paper/detectors/textcaps/clip-coco.weights"]
    assert paper.evaluation("text-ambient", "clip-coco").metric == "fd-clip-coco"
    assert [paper.tables[name].asked for name in ("table9a", "table9b", "vendi")] == [
        ({"model": "dfn5b"}, {"model": "clip-l-14"}),
        ({"detector": "mask2former", "model": "clip-l-14"},),
        ({"detector": "dino"},),
    ]
    assert (paper.tables["table5"].asked, paper.study("text").text_encoder) == ((), "dfn5b")
    assert paper.sampling("geneval-all").num_samples == 4 * paper.dataset("geneval-prompts").num_images


# Prompts of each category. Of all of them 124 of 200 were won with half of the ties, and 61.5 to 62.2 %.
DRAWBENCH = {
    "Colors": 25,
    "Conflicting": 10,
    "Counting": 19,
    "DALL-E": 20,
    "Descriptions": 20,
    "Gary Marcus et al.": 10,
    "Misspellings": 10,
    "Positional": 20,
    "Rare Words": 7,
    "Reddit": 38,
    "Text": 21,
}
PARTI = {
    "Animals": 314,
    "Artifacts": 287,
    "World Knowledge": 214,
    "People": 177,
    "Outdoor Scenes": 131,
    "Illustrations": 124,
    "Vehicles": 104,
    "Food & Beverage": 74,
    "Arts": 66,
    "Abstract": 51,
    "Produce & Plants": 50,
    "Indoor Scenes": 40,
}


@pytest.mark.parametrize(("counts", "low", "high"), [(DRAWBENCH, 124, 124), (PARTI, 1003, 1016)])
def test_the_papers_bars_of_figure_7_are_of_all_prompts(paper, counts, low, high):
    """Each share is rounded down, so that all of them together bound how many prompts were won."""
    printed = paper.figure("figure7").paper
    least = sum(count * printed[name] / 100 for name, count in counts.items())
    most = sum(count * (printed[name] + 1) / 100 for name, count in counts.items())
    assert least <= high and low <= most
    assert set(printed) == {*DRAWBENCH, *PARTI}
    spec = paper.figure("figure7")
    assert spec.lists == ("DrawBench", "PartiPrompts") and spec.labels == ("Ambient-o", "All data")
    assert [paper.dataset(name).num_images for name in ("drawbench", "partiprompts")] == [200, 1632]
    assert {200, 1632} == {sum(DRAWBENCH.values()), sum(PARTI.values())}


def test_rows_of_few_samples_are_refused_unless_several_have_each_caption(paper):
    """2,048 features: 200 samples of as many captions are no row of a table, 1,600 of 100 captions are."""
    check_measured(paper, "vendi-all")
    with pytest.raises(SpecError, match="runs.parti-all.sampling.num_samples: got 1632, allowed: more than"):
        check_measured(paper, "parti-all")


@pytest.mark.parametrize(
    ("entry", "run", "said"),
    [
        (
            {"kind": "clip_score", "model": "scene-modle"},
            "text-all",
            "no such name in text_encoders: 'scene-modle'",
        ),
        (
            {"kind": "clip_score", "model": "scene-model", "real": "digits"},
            "text-all",
            "scorers.x.real: got 'digits', allowed: a dataset with captions",
        ),
        (
            {"kind": "clip_score", "model": "scene-model"},
            "only-clean",
            "samples of only-clean have no captions",
        ),
        (
            {"kind": "clip_score", "model": "blind"},
            "text-all",
            "got 'blind', allowed: a text encoder that sees images",
        ),
        (
            {"kind": "geneval", "detector": "shapenet", "window": 16, "model": "scene-model"},
            "text-all",
            "scorers.x.model: got 'scene-model', allowed: null for a detector of kind classifier",
        ),
        (
            {"kind": "geneval", "detector": "mask2former"},
            "text-all",
            "scorers.x.model: got None, allowed: a value for a detector of kind mask2former",
        ),
        (
            {"kind": "geneval", "detector": "scene-features"},
            "text-all",
            "scorers.x.detector: got 'scene-features', allowed: one that gives objects, which kind",
        ),
        (
            {"kind": "vendi", "detector": "mask2former"},
            "text-all",
            "scorers.x.detector: got 'mask2former', allowed: one that gives features, which kind mask2former",
        ),
    ],
)
def test_scorers_of_captions_that_do_not_fit_are_refused(demo, monkeypatch, entry, run, said):
    monkeypatch.setitem(demo.tree["scorers"], "x", entry)
    with pytest.raises(SpecError, match=re.escape(said)):
        check_judge(demo, demo.run(run), "x", "tables.t.scorers", own=False)


def test_a_scorer_of_captions_scores_no_dataset_and_no_detector_asks_a_model_that_is_blind(demo):
    with pytest.raises(SpecError, match="kind: got 'clip_score', allowed: one for images as they are"):
        demo.scorer("clip-score").check(demo.dataset("scenes"))
    with pytest.raises(
        SpecError, match="detectors.d.model: got 'blind', allowed: a text encoder that sees images"
    ):
        check_model(demo, "detectors.d", "blind")
    with pytest.raises(SpecError, match="detectors.d.features: got 16, allowed: scene-model's 64"):
        check_model(demo, "detectors.d", "scene-model", 16)


@pytest.mark.parametrize(
    ("than", "judge", "said"),
    [
        ("vendi-all", {}, "captions: got 'scene-few', allowed: scene-prompts, as text-ambient has"),
        ("only-clean", {}, "captions: got None, allowed: scene-prompts"),
        ("text-all", {"real": "digits"}, "judges.j.real: got 'digits', allowed: a dataset with captions"),
        ("text-all", {"model": "blind"}, "judges.j.model: got 'blind'"),
    ],
)
def test_judges_that_do_not_fit_are_refused(demo, monkeypatch, than, judge, said):
    monkeypatch.setitem(demo.tree["judges"], "j", copy.deepcopy(demo.tree["judges"]["scene-judge"]) | judge)
    with pytest.raises(SpecError, match=re.escape(said)):
        demo.judge("j", "text-ambient", than)


@pytest.mark.parametrize(
    ("op", "fraction", "own", "whole"),
    [
        (None, 1.0, True, True),
        (None, 0.5, True, False),
        (None, 1.0, False, False),
        ("jpeg", 1.0, True, False),
    ],
)
def test_a_mixture_without_corruption_has_all_images_of_its_dataset(op, fraction, own, whole):
    """The audit allows latents of the whole dataset for it, if nothing is left out, and of no other one."""
    dataset, other = (SimpleNamespace(path=name, stage="prepare") for name in ("d", "o"))
    spec = {"op": op, "params": {"quality": 25} if op else {}, "clean_fraction": fraction}
    mixture = SimpleNamespace(
        path="m", key=Path("t/m"), manifest={"spec": spec, "inputs": {"data": [{"path": "d"}]}}
    )
    assert drawn.is_of({Path("t/d"): dataset if own else other}, mixture, dataset) == whole


def test_good_scenes_of_four_forms_lack_what_poor_ones_show_and_prompts_ask_for():
    found = Experiments(ROOT / "config", "four-forms")
    graph = Graph(found)
    jobs = graph.behind(["results/four-forms/table9b.csv"])
    assert {job.names["dataset"] for job in jobs if job.kind == "prepare"} == {
        "scenes-four", "scenes-poor", "scenes-seen", "scenes-held", "scene-prompts", "shapes"}
    forms = {name: set(found.dataset(name).forms)
             for name in ("scenes-four", "scenes-poor", "scenes-held", "scene-prompts")}
    assert set(TASKS) - forms.pop("scenes-four") == {"counting", "position"}
    assert all(few == set(TASKS) for few in forms.values())
    assert found.dataset("scenes-four").num_images == found.dataset("scenes").num_images
    assert found.study("text").training_seeds == (0, 1, 2)
    assert [found.detector(name).against for name in found.detectors("text")] == [
        None, AgainstSpec("scenes-held", "scenes-four")]
