"""Forged by one who makes every digest fit: rows of other runs, picked seeds, copies. Each is named."""

import shutil

import numpy as np
import pytest
from results_tree import RUNS, audit, problems, record, remake

from ambient.data.annotations import Annotations
from ambient.provenance import manifest
from ambient.storage.files import read_arrays, read_json, write_arrays, write_json

RUN = "runs/ambient/seed-0"


@pytest.fixture
def bare(tree):
    """A tree without what is made from its table: whoever forges that leaves the figures out."""
    for path in (*tree.glob("t*.p[nd]*"), *tree.glob("summary*")):
        path.unlink()
    return tree


def named(folder):
    """The details of what is misattributed; nothing else is wrong."""
    found = [problem for result in audit(folder).results.values() for problem in result.problems]
    assert {problem.word for problem in found} <= {"misattributed"}, found
    return [problem.detail for problem in found]


def test_the_tree_remade_as_it_is_has_no_problem(bare):
    remake(bare, {})
    assert not problems(bare) and audit(bare).results[bare / "t.csv"].level == 3


def seeds_of(tree, count):
    """A deed: the table asks for so many training seeds."""
    def deed(found):
        found["spec"]["training_seeds"] = list(range(count))
        found["inputs"]["metrics"] = [{"path": f"runs/{name}/seed-{seed}/metrics.json"}
                                      for name, _ in RUNS for seed in range(count)]
    return {tree / "t.csv": deed}


def test_one_training_copied_as_another_seed(bare):
    for name, _ in RUNS:
        shutil.copytree(bare / f"runs/{name}/seed-0", bare / f"runs/{name}/seed-1")
    remake(bare, seeds_of(bare, 2))
    assert "row 1 (runs/only-clean), training seed 1: " in named(bare)[0]
    assert "was trained with seed 0" in named(bare)[0]
    # With the seed in the specification edited too, the weights are still the same.
    deeds = {bare / f"runs/{name}/seed-1/{file}": lambda found: found["spec"].update(seed=1)
             for name, _ in RUNS for file in ("denoiser.safetensors", "loss.jsonl")}
    remake(bare, deeds)
    assert len(named(bare)) == 3 and "same weights: one training, counted twice" in named(bare)[0]


def test_one_run_as_every_row(bare):
    def deed(found):
        found["inputs"]["metrics"] = [found["inputs"]["metrics"][2]] * 3

    remake(bare, {bare / "t.csv": deed})
    assert len(named(bare)) == 2 and "does not lie in runs/only-clean/seed-0" in named(bare)[0]


def test_one_run_copied_as_another_row(bare):
    shutil.rmtree(bare / "runs/all-data")
    shutil.copytree(bare / "runs/ambient", bare / "runs/all-data")
    remake(bare, {})
    assert "its row shows the annotations of" in named(bare)[0]

    def deed(found):
        found["inputs"]["annotations"][0]["path"] = "../../../annotations/study/blur/all-data.safetensors"

    place = bare / "runs/all-data/seed-0"
    remake(bare, {place / "denoiser.safetensors": deed, place / "loss.jsonl": deed})
    assert named(bare) == ["row 2 (runs/all-data), training seed 0 and row 3 (runs/ambient), training seed 0 "
                           "have the same weights: one training, counted twice"]


def test_equal_weights_are_right_where_equal_images_are_used(bare):
    """Where no corrupted image is ever used, a run is Only Clean under another name."""
    shutil.copy(bare / "runs/only-clean/seed-0/denoiser.safetensors", bare / "runs/all-data/seed-0")
    deeds = {}
    for name in ("only-clean", "all-data"):
        table = bare / f"annotations/study/blur/{name}.safetensors"
        Annotations(np.arange(60), np.where(np.arange(60) % 2, np.inf, 0.0), np.zeros(60)).write(table)
        write_json(table.with_suffix(".json"), {"samples": 60, "corrupted": 30, "used": 0})
    remake(bare, deeds)
    assert named(bare) == []
    table = bare / "annotations/study/blur/all-data.safetensors"
    Annotations(np.arange(60), np.where(np.arange(60) == 1, 9.0, np.where(np.arange(60) % 2, np.inf, 0.0)),
                np.zeros(60)).write(table)
    write_json(table.with_suffix(".json"), {"samples": 60, "corrupted": 30, "used": 1, "sigma_min_mean": 9.0,
                                            "sigma_min_quartiles": [9.0] * 5})
    remake(bare, {})
    assert "one training, counted twice" in named(bare)[0]


def test_samples_copied_under_other_weights(bare):
    source, target = bare / RUN, bare / "runs/all-data/seed-0"
    for name in ("samples.safetensors", "moments.safetensors", "metrics.json"):
        shutil.copy(source / name, target / name)
    remake(bare, {})
    assert len(named(bare)) == 1 and "have the same samples, of different weights" in named(bare)[0]


def rival(folder):
    """A second mixture of the same images with its annotations, and latents of both mixtures.

    Returns the latents of the first and of the second, and the second's annotations.
    """
    own = folder / "mixtures/study/blur/clean-0.5.safetensors"
    other = folder / "mixtures/study/jpeg/clean-0.5.safetensors"
    arrays, data = read_arrays(own), folder / "data/digits.safetensors"
    other.parent.mkdir(parents=True)
    write_arrays(other, arrays | {"images": arrays["images"] // 2})
    record("corrupt", {"out": other}, {"data": data}, {"seed": 0, "op": "jpeg", "params": {"quality": 5}})
    encoder = folder / "encoders/digits/e.safetensors"
    encoder.parent.mkdir(parents=True)
    write_arrays(encoder, {"w": np.ones(3)})
    record("encoder", {"out": encoder}, {"data": data})
    latents = [folder / f"latents/study/{name}/clean-0.5.safetensors" for name in ("blur", "jpeg")]
    for number, (mixture, path) in enumerate(zip((own, other), latents, strict=True)):
        path.parent.mkdir(parents=True)
        write_arrays(path, {"ids": arrays["ids"], "mean": np.full((60, 1), number)})
        record("encode", {"out": path}, {"data": mixture, "encoder": encoder})
    annotations = folder / "annotations/study/jpeg/other.safetensors"
    present = read_arrays(folder / "annotations/study/blur/ambient.safetensors")
    annotations.parent.mkdir(parents=True)
    write_arrays(annotations, present)
    summary = annotations.with_suffix(".json")
    shutil.copy(folder / "annotations/study/blur/ambient.json", summary)
    record("annotate", {"out": annotations, "summary": summary}, {"data": other}, {"method": "fixed"})
    return *latents, annotations


def reads(role, *paths):
    """A deed: a job of a run read other files as `role`."""
    return lambda found: found["inputs"].update({role: [{"path": f"../../../{path}"} for path in paths]})


def of_run(folder, role, *paths):
    """The same of a training, all of whose files say it."""
    return {folder / RUN / name: reads(role, *(path.relative_to(folder) for path in paths))
            for name in ("denoiser.safetensors", "loss.jsonl")}


def test_latents_and_annotations_of_another_mixture_are_named(bare):
    own, other, annotations = rival(bare)
    decoded = {bare / RUN / "samples.safetensors": reads("encoder", "encoders/digits/e.safetensors")}
    remake(bare, of_run(bare, "latents", own) | decoded)
    assert named(bare) == []
    remake(bare, of_run(bare, "latents", other))
    assert any("which are latents of other images than" in detail for detail in named(bare))
    remake(bare, of_run(bare, "latents", own, other))  # of its own, and of others beside them
    assert any("which are latents of other images than" in detail for detail in named(bare))
    remake(bare, of_run(bare, "latents", own) | of_run(bare, "annotations", annotations))
    assert any("its row shows the annotations of" in detail for detail in named(bare))
    summary = {"path": annotations.with_suffix(".json").relative_to(bare).as_posix()}
    remake(bare, {bare / "t.csv": lambda found: found["inputs"]["annotations"].__setitem__(2, summary)})
    assert any("other.safetensors does not annotate" in detail for detail in named(bare))


def test_rows_of_stores_exchanged_with_all_manifests(bare):
    """What a job alone makes can't be derived from anything: level 4 is promised, none below."""
    for name, key in (("mixtures/study/blur/clean-0.5", "images"), (f"{RUN}/samples", "256"),
                      ("annotations/study/blur/ambient", "sigma_min")):
        path = bare / f"{name}.safetensors"
        arrays = read_arrays(path)
        order = [1, 0] if key == "256" else [0, 3, 2, 1, *range(4, 60)]
        write_arrays(path, arrays | {key: arrays[key][order]})
    remake(bare, {})
    assert not problems(bare)


def set_spec(key, value):
    return lambda found: found["spec"].update({key: value})


def set_row(key, value):
    return lambda found: found["spec"]["rows"][2].update({key: value})


@pytest.mark.parametrize(("name", "deed", "what"), [
    (f"{RUN}/samples.safetensors", set_spec("seeds", [7, 9]), "seeds of its samples are [7, 9]"),
    (f"{RUN}/samples.safetensors", set_spec("precision", "bfloat16"), "in sampler, seeds or number"),
    ("t.csv", set_row("corruption", "jpeg"), "is of blur {'sigma_px': 0.6}, its row says jpeg"),
    ("t.csv", set_row("parameters", {"sigma_px": 0.8}), "its row says blur {'sigma_px': 0.8}"),
    ("t.csv", set_row("dataset", "letters"), "is of digits, its row says letters"),
    ("t.csv", set_row("reference", "letters"), "is of digits, its row says letters"),
    ("t.csv", set_row("noise", {"P_mean": 0.0, "P_std": 1.0}), "has no noise"),
    ("t.csv", set_row("protocol", "strict, unbalanced"), "was made from no crops"),
    ("t.csv", set_row("run_id", "runs/other"), "does not lie in runs/other/seed-0"),
    (f"{RUN}/denoiser.safetensors", set_spec("seed", 5), "was trained with seed 5"),
    ("detectors/digits/net.weights", set_spec("channels", 16), "is of another detector than"),
    ("detectors/digits/ref.safetensors", set_spec("channels", 16), "is of another detector than")])
def test_what_a_row_says_is_what_lies_behind_it(bare, name, deed, what):
    remake(bare, {bare / name: deed})
    assert any(what in detail for detail in named(bare)), named(bare)


def test_images_counted_and_metrics_beside_are_of_the_same_run(bare):
    place = bare / "runs/all-data/seed-0"
    for name in ("metrics.json", "moments.safetensors"):
        for path in (place / name, manifest.path_for(place / name)):
            shutil.copy(path, path.with_name(f"other-{path.name}"))

    def other(found):  # the scores of another run's samples, in this run's folder
        found["artefact"] = f"other-{found['artefact']}"
        found["inputs"]["samples"][0]["path"] = "../../ambient/seed-0/samples.safetensors"
        for entry in found["outputs"].values():
            entry["path"] = f"other-{entry['path']}"

    def beside(found):
        found["spec"]["beside"] = ["fd-net"]
        paths = [entry["path"] for entry in found["inputs"]["metrics"]]
        paths[1] = paths[1].replace("metrics", "other-metrics")
        found["inputs"]["beside"] = [{"path": path} for path in paths]

    deeds = {place / f"other-{name}": other for name in ("metrics.json", "moments.safetensors")}
    remake(bare, deeds | {bare / "t.csv": beside})
    (wrong,) = named(bare)
    assert "other-metrics.json is of other samples than" in wrong

    def usable(found):
        found["spec"]["beside"], found["inputs"]["beside"] = [], []
        paths = [f"annotations/study/blur/{name}.safetensors" for name, _ in RUNS]
        found["inputs"]["usable"] = [{"path": path} for path in reversed(paths)]

    remake(bare, {bare / "t.csv": usable})
    assert len(named(bare)) == 2 and "its row counts the images of" in named(bare)[0]


def test_snapshots_and_numbers_of_samples_are_those_that_were_asked_for(bare):
    for name, key, value in (("denoiser.safetensors", "snapshots", [128, 256, 512]),
                             ("samples.safetensors", "num_samples", 4000)):
        for run, _ in RUNS:
            remake(bare, {bare / f"runs/{run}/seed-0/{name}": set_spec(key, value)})
        found = [p for r in audit(bare).results.values() for p in r.problems]
        assert {p.word for p in found} == {"differs"} and "was told to" in found[0].detail


def test_a_loss_that_is_not_the_rows(bare):
    place = bare / RUN / "denoiser.safetensors"
    remake(bare, {place: set_spec("loss", {"buffer": 4.0}),
                  bare / "t.csv": set_row("settings", {"buffer": 2.0})})
    assert any("trained with buffer 4.0, its row says 2.0" in detail for detail in named(bare))


def test_scores_of_moments_that_overflow(bare):
    place = bare / RUN
    kept = {name: np.full_like(array, 1e200) for name, array in
            read_arrays(place / "moments.safetensors").items()}
    write_arrays(place / "moments.safetensors", kept)
    found = read_json(place / "metrics.json")
    write_json(place / "metrics.json", found | {"scores": [s | {"value": 0.1} for s in found["scores"]]})
    remake(bare, {})
    assert ("metrics.json", "differs") in problems(bare)
