"""All sampling seeds for the best snapshot, which the first seeds find."""

import dataclasses
import json
import re

import numpy as np
import pytest
from forks import Ranks, sample_best
from results_tree import audit
from tiny import DETECTOR, RECORD, SAMPLING, kept, run_training

from ambient.audit.seeds import wrong_seeds
from ambient.cluster.cost import Costs
from ambient.evaluation.features import extract
from ambient.evaluation.frechet import frechet_distance, moments, stored
from ambient.provenance import manifest
from ambient.report import tables
from ambient.settings import Experiments
from ambient.specs import EvaluationSpec, strict
from ambient.specs.strict import SpecError
from ambient.stages import detector, evaluate, reference, sample
from ambient.storage.files import read_arrays, write_arrays
from tests import finished

BEST = dataclasses.replace(SAMPLING, num_samples=12, seeds=(0, 1, 2), earlier_seeds=1, best_by=DETECTOR)
EVERY = dataclasses.replace(BEST, earlier_seeds=None, best_by=None)


@pytest.fixture
def files(mixture, annotations, tmp_path):
    """Weights of two snapshots, a detector and the moments that it holds samples against."""
    denoiser = run_training(mixture, annotations, tmp_path)
    detector.main(DETECTOR, RECORD, data=mixture, weights=None, state=kept(tmp_path / "d"),
                  out=tmp_path / "net")
    reference.main(DETECTOR, RECORD, data=mixture, detector=tmp_path / "net", state=kept(tmp_path / "r"),
                   out=tmp_path / "ref")
    return {"denoiser": denoiser, "detector": tmp_path / "net", "reference": tmp_path / "ref"}


def run(spec, folder, files, name):
    sample.main(spec, RECORD, **files, state=kept(folder / f"{name}-state"), out=folder / name)
    return read_arrays(folder / name)


def distances(samples, files):
    """Snapshot -> the distance of its first seed's samples."""
    target = stored(read_arrays(files["reference"]), "ref")
    return {int(nimg): frechet_distance(moments(extract(DETECTOR, files["detector"], images[0])), target)
            for nimg, images in samples.items()}


def with_best(best, files, folder):
    """Samples of all seeds. The reference is changed where it must be for a snapshot to be the best."""
    every = run(EVERY, folder, {"denoiser": files["denoiser"]}, "every")
    found = distances(every, files)
    if min(found, key=found.get) != best:  # moments of that one's own samples: none are nearer to them
        own = moments(extract(DETECTOR, files["detector"], every[str(best)][0]))
        write_arrays(files["reference"], {"mean": own.mean, "covariance": own.covariance,
                                          "count": np.array(12)})
    return every


@pytest.mark.parametrize("best", [80, 160])
def test_the_best_snapshot_gets_all_seeds(best, files, tmp_path):
    """By its first seed's distance, or, where the last is better, none further. Samples are as with all."""
    every = with_best(best, files, tmp_path)
    got = run(BEST, tmp_path, files, "best")
    assert {name: len(images) for name, images in got.items()} == {"80": 3 if best == 80 else 1, "160": 3}
    assert all(np.array_equal(images, every[name][:len(images)]) for name, images in got.items())
    assert RECORD.facts["best_nimg"] == best
    assert RECORD.facts["samples"] == 12 * sum(map(len, got.values()))
    scores = evaluated(files, tmp_path)
    assert [(one["nimg"], one["seed"]) for one in scores] == [
        (int(name), seed) for name in ("80", "160") for seed in range(len(got[name]))]


def evaluated(files, folder):
    spec = EvaluationSpec("fd-net", DETECTOR, BEST.seeds, earlier_seeds=1)
    evaluate.main(spec, RECORD, samples=folder / "best", detector=files["detector"],
                  reference=files["reference"], state=kept(folder / "e"), out=folder / "m.json",
                  moments_out=folder / "moments")
    return json.loads((folder / "m.json").read_text())["scores"]


def test_what_was_drawn_before_a_stop_is_not_drawn_again(files, tmp_path, monkeypatch):
    whole = with_best(80, files, tmp_path)
    drawn, images = [], sample.Draw.images

    def stopping(self, seed, ids):
        drawn.append(seed)
        if len(drawn) in (3, 6):  # one among the first seeds, one among those of the best snapshot
            raise KeyboardInterrupt
        return images(self, seed, ids)

    monkeypatch.setattr(sample.Draw, "images", stopping)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(BEST, tmp_path, files, "again")
    again = run(BEST, tmp_path, files, "again")
    assert len(drawn) == 2 * 3 + 2  # two of them were cut short
    assert all(np.array_equal(again[name], whole[name]) for name in whole)


def test_ranks_agree_on_the_best_snapshot(files, tmp_path):
    with_best(80, files, tmp_path)
    run(BEST, tmp_path, files, "whole")
    Ranks(2, tmp_path / "logs", sample_best, BEST, files, tmp_path).done()
    assert (tmp_path / "ranks").read_bytes() == (tmp_path / "whole").read_bytes()


def scores(values):
    """{nimg: [value a seed]} as a score list."""
    return [{"nimg": nimg, "seed": seed, "value": value}
            for nimg, row in values.items() for seed, value in enumerate(row)]


def test_the_best_of_a_table_is_chosen_by_the_seeds_that_all_snapshots_have():
    """By all of its seeds 100 has 5.0, and 200 a single 4.9: the first seeds say 100."""
    found = tables.summarise([scores({100: [4.0, 5.0, 6.0], 200: [4.9], 300: [5.0, 7.0, 9.0]})])
    assert (found["best_nimg"], found["value_best"], found["value"]) == (100, 5.0, 7.0)
    assert found["best_num_seeds"] is None and found["num_seeds"] == 3
    few = tables.summarise([scores({100: [4.0], 200: [5.0, 1.0]})])  # no luck by a seed that one has alone
    assert (few["best_nimg"], few["value_best"], few["best_num_seeds"]) == (100, 4.0, "1")


@pytest.mark.parametrize(("values", "match"), [
    ({80: [3.0, 3.0, 3.0], 160: [4.0, 4.0, 4.0]}, None),
    ({80: [5.0], 160: [4.0, 9.0, 9.0]}, None),
    ({80: [4.0], 120: [4.0], 160: [4.0, 4.0, 4.0]}, None),
    ({80: [4.002], 160: [4.005, 4.0, 4.0]}, None),  # nearer than two machines may measure
    ({80: [5.0, 1.0, 1.0], 160: [4.0, 9.0, 9.0]}, "snapshot 80 was taken for the best, with 5 by the first "),
    ({80: [3.0], 160: [4.0, 4.0, 4.0]}, "snapshot 160 was taken for the best, .*; 80 has 3"),
    ({80: [3.0] * 3, 120: [3.0] * 3, 160: [4.0] * 3}, r"snapshot 120: seeds are \[0, 1, 2\], allowed: \[0\]"),
    ({80: [3.0, 3.0], 160: [4.0, 4.0, 4.0]}, r"snapshot 80: seeds are \[0, 1\], allowed: \[0, 1, 2\]"),
    ({80: [3.0], 160: [4.0]}, r"snapshot 160: seeds are \[0\], allowed: \[0, 1, 2\]"),
    ({}, "there are no scores")])
def test_the_audit_knows_which_snapshot_has_all_seeds(values, match):
    spec = EvaluationSpec("fd-net", DETECTOR, BEST.seeds, earlier_seeds=1)
    found = wrong_seeds(scores(values), spec, strict.plain(DETECTOR))
    assert found is None if match is None else re.match(match, found)


def test_seeds_without_a_best_snapshot_and_by_another_detector():
    other = EvaluationSpec("fd-net", dataclasses.replace(DETECTOR, seed=5), BEST.seeds, earlier_seeds=1)
    luck = scores({80: [5.0, 1.0, 1.0], 160: [4.0, 9.0, 9.0]})
    assert wrong_seeds(luck, other, strict.plain(DETECTOR)) is None  # it has another opinion
    assert "snapshot 80: seeds are [0, 1, 2]" in wrong_seeds(luck, other, None)


def test_samples_of_other_numbers_of_seeds_are_refused():
    spec = EvaluationSpec("fd-net", DETECTOR, BEST.seeds, earlier_seeds=1)
    assert spec.seeds_of(1, last=False) == (0,) and spec.seeds_of(3, last=False) == (0, 1, 2)
    for sets, last, allowed in ((2, False, "1 or 3"), (1, True, "3")):
        with pytest.raises(ValueError, match=f"samples of {sets} seeds, allowed: {allowed}$"):
            spec.seeds_of(sets, last)


OVERLAY = finished.OVERLAY.replace("snapshots: [256]", "snapshots: [128, 256]").replace(
    "sampling: {num_samples: 40}",
    "sampling: {num_samples: 40, seeds: [0, 1, 2], earlier_seeds: 1, best_by: digitnet}")


def test_a_table_with_all_seeds_for_the_best(tmp_path, monkeypatch):
    """Its jobs read what finds the best; the audit derives all again, and sees a best that is not."""
    finished.configure(tmp_path, OVERLAY)
    monkeypatch.chdir(tmp_path)
    finished.make(tmp_path, "results/away/table2a.csv")
    found = audit(tmp_path / "results")
    assert not [problem for result in found.results.values() for problem in result.problems]
    run = tmp_path / "results/away/runs/only-clean/seed-0"
    read = manifest.read(manifest.path_for(run / "samples.safetensors"))
    assert {"detector", "reference"} <= set(read["inputs"])
    assert found.results[run / "metrics.json"].level == 3
    table = tables.pd.read_csv(tmp_path / "results/away/table2a.csv")
    assert "best_num_seeds" not in table and set(table["num_seeds"]) == {3}
    assert read["facts"]["best_nimg"] == table["best_nimg"][0]


@pytest.mark.parametrize(("change", "match"), [
    ("best_by: digitnot", "best_by: got 'digitnot', allowed: null or one of the study's detectors: digitnet"),
    ("earlier_seeds: null", "best_by: got 'classifier', allowed: null where earlier_seeds gives"),
    ("earlier_seeds: 0", "before the last none of 3 seeds"),
    ("earlier_seeds: 3", "before the last 3 of 3 seeds")])
def test_what_can_not_find_a_best_snapshot_is_refused(change, match, tmp_path):
    finished.configure(tmp_path, re.sub(rf"{change.partition(':')[0]}: \w+", change, OVERLAY))
    with pytest.raises(SpecError, match=match):
        Experiments(tmp_path / "config", finished.SCALE).sampling("only-clean")


def test_what_finding_the_best_costs(tmp_path):
    """At the most two further sets of samples, and features of the first seed's of both snapshots."""
    works = []
    for name, overlay in (("without", OVERLAY.replace(", best_by: digitnet", "")), ("with", OVERLAY)):
        finished.configure(tmp_path / name, overlay)
        costs = Costs(Experiments(tmp_path / name / "config", finished.SCALE))
        works.append(costs.sample("only-clean"))
    spec = costs.experiments.sampling("only-clean")
    assert (spec.looked_at(2), spec.images(2)) == (2 * 40, 6 * 40)
    each = works[0].flops / 4  # of 40 samples: one seed of the first snapshot, three of the last
    assert works[1].flops == 6 * each + 2 * 40 * costs.experiments.detector("digitnet").flops(1, 8)
