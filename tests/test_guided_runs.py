"""Runs sampled with guidance, from the settings to the audit: one training, several sets of samples."""

import io
import shutil

import finished
import numpy as np
import pandas as pd
import pytest
import torch
from results_tree import audit as found
from results_tree import remake

from ambient.audit.cli import main as audit
from ambient.cluster.cost import Costs
from ambient.cluster.work import loading_mb
from ambient.data.datasets import to_uint8
from ambient.diffusion import randomness
from ambient.diffusion.sampler import heun
from ambient.evaluation.features import extract
from ambient.evaluation.frechet import frechet_distance, moments
from ambient.provenance import manifest
from ambient.report import published
from ambient.settings import Experiments
from ambient.settings.graph import Graph, Node
from ambient.specs import SummarySpec
from ambient.specs.strict import SpecError, plain
from ambient.storage.files import read_arrays
from ambient.training.loading import load_denoiser

OVERLAY = """extends: tiny
studies:
  controlled:
    training:
      network: {kind: mp_unet, model_channels: 8, channel_mult: [1, 2], num_blocks: 1, attn_resolutions: [],
                channels_per_head: 8, dropout: 0.0, conditional: true}
      augment: {transforms: []}
      optimiser: {nimg: 192, batch: 64, lr: 0.01, betas: [0.9, 0.99], ema_stds: [0.1, 0.2]}
      snapshots: [64, 128, 192]
    sampling: {sampler: {num_steps: 3}, num_samples: 40, seeds: [0], earlier_seeds: 0, guide: {run: small}}
    detector: [digitnet, other]
datasets:
  digits: {max_images: 150, resolution: 8, part: [0.0, 0.8]}
  unseen: {like: digits, max_images: 60, part: [0.8, 1.0]}
detectors:
  digitnet: {nimg: 128, members: 2}
  other: {like: digitnet, weights_of: digitnet, against: {dataset: unseen, of: digits}}
runs:
  small:
    {study: controlled, corruption: none, annotation: clean,
     training: {network: {kind: mp_unet, model_channels: 4, channel_mult: [1, 2], num_blocks: 1, dropout: 0.0,
                          attn_resolutions: [], channels_per_head: 4, conditional: false}}}
sweeps:
  grid: {of: [only-clean], ema_stds: [0.12, 0.2], guidances: [1.0, 2.0], sampling: {num_samples: 30}}
figures:
  swept: {title: A sweep, kind: sweep, study: controlled, sweep: grid}
tables:
  table2a:
    title: Digits
    sweeps: [grid]
    rows:
      - only-clean: {paper: {fd-other: 4.0, fd-other_guided: 3.5, parameters_1e6: 125, nfe: 63}}
      - same: {samples_of: only-clean, label: Guidance 1, sampling: {guidance: 1.0}}
      - guided:
          {samples_of: only-clean, label: Guided,
           sampling: {guidance: 2.0, ema_std: 0.15, guide: {ema_std: 0.1, nimg: 128}}}
"""
RUNS = "results/away/runs"
SAMPLES = "guided/seed-0/samples"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The table and what lies behind it, made once."""
    folder, patch = tmp_path_factory.mktemp("guided"), pytest.MonkeyPatch()
    finished.configure(folder, OVERLAY)
    patch.chdir(folder)
    finished.make(folder, "results/away/table2a.csv", "results/away/swept.png")
    patch.undo()
    return folder


@pytest.fixture(scope="module")
def graph(tree):
    return Graph(Experiments(tree / "config", finished.SCALE))


def sample(run):
    return Node("sample", (("run", run), ("seed", "0")))


def test_one_training_gives_several_sets_of_samples(graph):
    jobs = graph.behind(["results/away/table2a.csv"])
    assert sorted(job.names["run"] for job in jobs if job.kind == "train") == ["only-clean", "small"]
    points = [f"only-clean-ema-{width}-g-{g}" for width in ("0.12", "0.2") for g in "12"]
    assert sorted(job.names["run"] for job in jobs if job.kind == "sample") == sorted(
        ["only-clean", "same", "guided", *points])
    assert graph.reads(sample("guided")) == {
        "denoiser": [f"{RUNS}/only-clean/seed-0/denoiser-ema-0.15.safetensors"],
        "guide": [f"{RUNS}/small/seed-0/denoiser-ema-0.1.safetensors"]}
    assert graph.asks(sample("same")) == graph.asks(sample("only-clean"))
    assert graph.reads(sample("same")) == {"denoiser": [f"{RUNS}/only-clean/seed-0/denoiser.safetensors"]}
    with pytest.raises(SpecError, match="runs.guided: has no training of its own: ask for that of only"):
        graph.asks(Node("train", (("run", "guided"), ("seed", "0"))))


def test_guidance_one_gives_the_bytes_of_no_guidance(tree):
    own, same = (tree / RUNS / run / "seed-0/samples.safetensors" for run in ("only-clean", "same"))
    assert own.read_bytes() == same.read_bytes()


def test_guided_samples_are_those_of_the_closed_form(tree):
    """D = D_guide + 2 (D_main - D_guide) in each evaluation, of the snapshots and widths that are told."""
    main, about = load_denoiser(tree / RUNS / "only-clean/seed-0/denoiser-ema-0.15.safetensors", 192,
                                torch.device("cpu"))
    guide, _ = load_denoiser(tree / RUNS / "small/seed-0/denoiser-ema-0.1.safetensors", 128,
                             torch.device("cpu"))
    ids = range(32)  # the stage's own first batch
    index = (randomness.uniform("class", 0, ids) * len(about["classes"])).astype(int)
    told = {"classes": torch.eye(about["num_classes"])[np.array(about["classes"])[index]]}

    def twice_beyond(x, sigma):
        return 2 * main(x, sigma, told) - guide(x, sigma)

    x = torch.from_numpy(randomness.normal("latent", 0, ids, (1, 8, 8))).double()
    experiments = Experiments(tree / "config", finished.SCALE)
    with torch.no_grad():
        images = heun(twice_beyond, x, experiments.sampling("guided").sampler, None)
    own = read_arrays(tree / RUNS / "guided/seed-0/samples.safetensors")["192"][0]
    difference = to_uint8(images.clamp(-1, 1).float().numpy()).astype(int) - own[:32]
    assert abs(difference).max() <= 1  # a rounding of the last bit, of the sum in another order
    unguided = read_arrays(tree / RUNS / "only-clean/seed-0/samples.safetensors")["192"][0]
    assert abs(unguided.astype(int) - own).mean() > 3


def test_evaluations_are_counted_of_both_networks(tree, graph):
    facts = manifest.read(manifest.path_for(tree / RUNS / "guided/seed-0/samples.safetensors"))["facts"]
    assert (facts["nfe"], facts["guide_nfe"], facts["samples"]) == (5, 5, 40)
    table = pd.read_csv(tree / "results/away/table2a.csv")
    assert table["nfe"].tolist() == [5, 5, 10] and table["guidance"].tolist() == [1, 1, 2]
    assert table["ema_std"].fillna(0).tolist() == [0, 0, 0.15]
    assert table["guide"].fillna("").tolist() == ["", "", "small"]
    assert table["training_id"].fillna("").tolist() == ["", "runs/only-clean", "runs/only-clean"]
    facts = manifest.read(manifest.path_for(tree / RUNS / "only-clean/seed-0/denoiser.safetensors"))["facts"]
    assert table["parameters_1e6"].tolist() == [pytest.approx(facts["parameters"] / 1e6, rel=1e-5)] * 3
    for name, number in (("parameters_1e6", 125), ("nfe", 63)):
        assert table[f"paper_{name}"].fillna(0).tolist() == [number, 0, 0]
    costs, experiments = Costs(graph.experiments), graph.experiments
    main, guide = (experiments.training(run, 0).network.cost(8, 1) for run in ("guided", "small"))
    assert costs.sample("only-clean").flops == 2 * 5 * 40 * main.multiply_adds
    assert costs.sample("guided").flops == 2 * 5 * 40 * (main.multiply_adds + guide.multiply_adds)
    more = costs.sample("guided").memory_mb - costs.sample("only-clean").memory_mb
    assert more == pytest.approx(loading_mb(guide.parameters))


def test_the_table_takes_the_least_of_the_sweep_for_each_metric(tree):
    points, table = (pd.read_csv(tree / "results/away" / name) for name in ("sweeps/grid.csv", "table2a.csv"))
    assert points["training_id"].eq("runs/only-clean").all() and points["num_samples"].eq(30).all()
    assert list(zip(points["ema_std"], points["guidance"], points["nfe"], strict=True)) == [
        (width, g, nfe) for width in (0.12, 0.2) for g, nfe in ((1, 5), (2, 10))]
    for metric, column in (("fd-digitnet", "value"), ("fd-other", "fd-other")):
        for kind, g in (("unguided", 1), ("guided", 2)):
            part = points[points["guidance"] == g]
            first = part.sort_values(column).iloc[0]
            for name, value in (("", first[column]), ("_ema_std", first["ema_std"]),
                                ("_guidance", first["guidance"]), ("_points", len(part))):
                assert table[f"{metric}_{kind}{name}"].tolist() == [value] * 3
    assert set(table["sweep_grid"]) == {"ema_std 0.12, 0.2; guidance 1, 2"}
    assert set(table["sweep_rule"]) == {"least of the points, on the metric itself: optimistic"}


def test_the_summary_has_the_least_of_sweeps_beside_the_published_ones(tree, graph):
    table, spec = tree / "results/away/table2a.csv", SummarySpec((graph.experiments.tables["table2a"],))
    found = pd.read_csv(io.StringIO(published.rebuild(plain(spec), [table], [3])))
    own = found[found["run_id"] == "runs/only-clean"].set_index("quantity")
    first = pd.read_csv(table).iloc[0]
    for kind, paper in (("unguided", 4.0), ("guided", 3.5)):
        assert own.loc[f"fd-other_{kind}", "paper"] == paper
        assert own.loc[f"fd-other_{kind}", "ours"] == first[f"fd-other_{kind}"]
        assert own.loc[f"fd-other_{kind}", "note"] == "least of the points, on the metric itself: optimistic"


def test_distances_to_other_images_are_to_their_moments(tree):
    weights = tree / "results/away/detectors/digits/digitnet.weights"
    images = read_arrays(tree / "results/away/data/unseen.safetensors")["images"]
    drawn = read_arrays(tree / RUNS / "guided/seed-0/samples.safetensors")["192"][0]
    spec = Experiments(tree / "config", finished.SCALE).detector("other")
    one, other = (moments(extract(spec, weights, of)) for of in (images, drawn))
    table = pd.read_csv(tree / "results/away/table2a.csv")
    assert table["fd-other"][2] == pytest.approx(frechet_distance(other, one), rel=1e-5)
    assert set(table["fd-other_against"]) == {"unseen"} and set(table["fd-other_reference_images"]) == {60}
    assert abs(table["fd-other"] - table["value"]).min() > 1e-3


def test_its_table_passes_the_audit(tree, monkeypatch, capsys):
    monkeypatch.chdir(tree)
    assert audit(["results/away"]) == 0, capsys.readouterr().out


def told_more(manifest):
    manifest["spec"]["guidance"] = 1.7


def of_another_size(manifest):
    manifest["facts"]["parameters"] += 1


def guided_by_itself(manifest):
    own, guide = manifest["inputs"]["denoiser"], manifest["inputs"]["guide"]
    guide[0]["path"], manifest["spec"]["guide"]["ema_std"] = own[0]["path"], 0.15


def held_against_its_own(manifest):
    manifest["inputs"]["reference"][0]["path"] = "../../../detectors/digits/digitnet-reference.safetensors"


def without_guide(manifest):
    manifest["inputs"]["guide"] = []


@pytest.mark.parametrize(("file", "deed", "word"), [
    ("only-clean/seed-0/denoiser", of_another_size, " weights, its row says 0.04"),
    (SAMPLES, told_more, "'guidance': 1.7, 'guide': 'small', 'nfe': 10}, its row says {'ema_std': 0.15, "),
    (SAMPLES, guided_by_itself, "'guide': 'only-clean', 'nfe': 10}, its row says"),
    (SAMPLES, without_guide, "and read none"),
    (SAMPLES, None, "have the same samples, drawn in different ways")])
def test_what_a_run_only_says_of_itself_is_found(tree, tmp_path, file, deed, word):
    results = shutil.copytree(tree / "results/away", tmp_path / "results/away")
    one = results / "runs" / f"{file}.safetensors"
    if deed is None:
        shutil.copy(results / "runs/only-clean/seed-0/samples.safetensors", one)
    remake(results, {one: deed} if deed else {})
    problems = found(results / "table2a.csv").results[results / "table2a.csv"].problems
    assert word in " ".join(problem.detail for problem in problems)


def test_other_images_than_a_detector_names_are_found(tree, tmp_path):
    results = shutil.copytree(tree / "results/away", tmp_path / "results/away")
    scores = results / "runs/guided/seed-0/metrics-other.json"
    remake(results, {scores: held_against_its_own})
    problems = found(scores).results[scores].problems
    assert "is of digits, its specification says unseen" in " ".join(one.detail for one in problems)


@pytest.mark.parametrize(("key", "change", "message"), [
    ("of: digits}", "of: unseen}", "detectors.other.against.dataset: got 'unseen', allowed: another dataset"),
    ("unseen, of: digits}", "cifar10, of: digits}", "against.dataset: got 'cifar10', allowed: one with"),
    ("[digitnet, other]", "[other, digitnet]", "studies.controlled.detector: .*, allowed: other after the"),
    ("guidance: 2.0, ", "guidance: 0.5, ", "away.yaml: .*runs.guided.sampling.guidance: got 0.5, allowed"),
    (", guide: {run: small}}", "}", r"runs.guided.sampling.guide.run: no such name in runs: None"),
    (", guide: {ema_std: 0.1, nimg: 128}}", ", guide: null}", "sampling.guide: got None, allowed: the run"),
    ("guide: {run: small}", "guide: {run: smal}", r"guide.run: no such name in runs: 'smal' \(did you mean"),
    ("guide: {run: small}", "guide: {run: faces-only-clean}",
     "guide.run: got 'faces-only-clean', allowed: a run with dataset digits, as .* has; its is ffhq"),
    (", nimg: 128}", ", nimg: 129}", r"guide.nimg: got 129, allowed: null \(the last\), or a snapshot of s"),
    ("guide: {ema_std: 0.1, nimg: 128}", "guide: {ema_std: 0.4}", r"guide.ema_std: got 0.4, allowed: \(0, "),
    ("guide: {ema_std: 0.1, nimg: 128}", "guide: {run: only-clean}", "a denoiser that guides itself"),
    ("samples_of: only-clean, label: Guided", "samples_of: same, label: Guided",
     "runs.guided.samples_of: got 'same', allowed: a run with a training of its own"),
    ("samples_of: only-clean, label: Guided", "samples_of: guided, label: Guided",
     "runs.guided.samples_of: got 'guided', allowed: a run with a training of its own"),
    ("samples_of: only-clean, label: Guided", "samples_of: only-clean, annotation: all",
     r"samples_of: got 'only-clean', allowed: nothing beside it that a training has \(annotation\)")])
def test_guidance_that_can_not_be_is_refused_before_anything_runs(tmp_path, key, change, message):
    assert key in OVERLAY
    finished.configure(tmp_path, OVERLAY.replace(key, change))
    with pytest.raises(SpecError, match=message):
        Experiments(tmp_path / "config", finished.SCALE)
