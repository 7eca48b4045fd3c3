"""Trainings and samples that are told captions, from tars to the audit, by every stage of a scale."""

import itertools
import json
import shutil
import tarfile
from io import BytesIO
from pathlib import Path

import finished
import numpy as np
import pytest
import torch
from PIL import Image
from raw_images import encoded
from results_tree import audit as found
from results_tree import remake
from safetensors.torch import load_file, save_file

import ambient
from ambient.audit.cli import main as audit
from ambient.cluster import sizes
from ambient.cluster.cost import Costs
from ambient.commands import export, generate, sample
from ambient.commands.pictures import pixels_of
from ambient.data import bpe
from ambient.data.datasets import read
from ambient.data.text_states import told
from ambient.diffusion.networks.text_tower import TextTower
from ambient.evaluation.draw import Draw
from ambient.provenance import manifest
from ambient.settings import Experiments
from ambient.settings.graph import Graph
from ambient.specs.strict import SpecError
from ambient.storage.files import read_arrays, read_json, sha256_of_raw, write_json
from ambient.training.loading import load_sampled

COLOURS, THINGS = ("red", "blue", "green"), ("cat", "dog")
SAID = [f"a {colour} {thing}" for colour, thing in itertools.product(COLOURS, THINGS)]
OVERLAY = """extends: tiny
datasets:
  digits: {{max_images: 120, resolution: 8}}
  real: {{source: webdataset, resolution: 8, channels: 1, path: {here}/real, sha256: {pins[0]}, licence: CC0}}
  made: {{source: webdataset, resolution: 8, channels: 1, path: {here}/made, sha256: {pins[1]},
         sigma_min: 0.5, captions_of: real}}
  asked: {{source: prompts, resolution: 8, channels: 1, path: {here}/asked.txt, sha256: {pins[2]}}}
corruptions:
  plus-made: {{op: add, dataset: made}}
annotations:
  by-source: {{method: by_source, label: Ambient-o}}
text_encoders:
  tower: {{kind: openclip, weights: {here}/clip, width: 8, heads: 2, layers: 1, context: 6, features: 4,
          sha256: {pins[3]}}}
studies:
  told:
    like: controlled
    dataset: real
    clean_fraction: 1.0
    text_encoder: tower
    training:
      network: {{kind: dit, model_channels: 16, depth: 2, mixer_channels: 16, mixer_depth: 2, round_to: 16,
                caption_channels: 8, channels_per_head: 8, num_experts: 2, conditional: true}}
      augment: {{transforms: []}}
      optimiser: {{nimg: 128, batch: 32, lr: 0.01, ramp_nimg: 0, decay: constant, precision: float32,
                  algorithm: adamw, weight_decay: 0.1, clip: 0.25}}
      loss: {{buffer: null, margin: 0.05, reduction: mean}}
      caption_dropout: 0.2
      mask: 0.5
      keep_state: true
      snapshots: [128]
    sampling: {{sampler: {{num_steps: 3}}, num_samples: 20, seeds: [0], captions: asked, captions_each: 2,
               guidance: 2.0, guide: {{told: false}}}}
tables:
  table2a:
    title: Captions
    defaults: {{study: told, corruption: plus-made, annotation: by-source}}
    scorers: [one, two]
    rows:
      - first: {{label: masked}}
      - second:
          {{label: whole, training: {{mask: 0.0, keep_state: false, start: {{run: first, moments: true}}}}}}
scorers: {{one: {{kind: vendi, detector: digitnet}}, two: {{kind: vendi, detector: digitnet}}}}
judges: {{eye: {{kind: command, path: {here}/eye, sha256: {pins[4]}, real: real, checks: 3, pairs: 12}}}}
figures:
  figure7:
    {{title: Preferences, kind: preferences, run: second, than: first, judge: eye, also: [], paper: {{}}}}
"""
RUNS = "results/away/runs"


def shards(folder, count, seed):
    """A tar of grey images with captions."""
    random = np.random.default_rng(seed)
    folder.mkdir()
    with tarfile.open(folder / "0.tar", "w") as archive:
        for i in range(count):
            pixels = random.integers(0, 256, (8, 8), np.uint8)
            for name, content in ((f"{i:03}.png", encoded(pixels)), (f"{i:03}.txt", SAID[i % 6].encode())):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, BytesIO(content))


def clip(folder):
    """A small text tower with a list of merges of full length."""
    folder.mkdir()
    torch.manual_seed(1)
    tower = TextTower(bpe.VOCABULARY, 6, 8, 2, 1, 4, True)
    torch.nn.init.normal_(tower.positional_embedding)
    save_file(tower.state_dict(), folder / "open_clip_model.safetensors")
    pairs = itertools.islice(itertools.product(bpe.byte_symbols(), repeat=2), bpe.MERGES)
    (folder / "merges.txt").write_text("#version\n" + "\n".join(map(" ".join, pairs)))


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The table and what lies behind it, made once."""
    folder, patch = tmp_path_factory.mktemp("told"), pytest.MonkeyPatch()
    shards(folder / "real", 60, 0)
    shards(folder / "made", 30, 1)
    clip(folder / "clip")
    (folder / "asked.txt").write_text("a red cat\na blue dog\na red cat\n")
    (folder / "eye").write_text('#!/bin/sh\n[ $(wc -c < "$2") -gt $(wc -c < "$3") ] && echo A || echo B\n')
    (folder / "eye").chmod(0o755)
    pins = [sha256_of_raw(folder / name)[0] for name in ("real", "made", "asked.txt", "clip", "eye")]
    finished.configure(folder, OVERLAY.format(here=folder, pins=pins))
    patch.chdir(folder)
    finished.make(folder, "results/away/table2a.csv", "results/away/figure7.png")
    patch.undo()
    return folder


@pytest.fixture
def here(tree, monkeypatch):
    monkeypatch.chdir(tree)
    return tree


def test_the_chain_is_whole(here, capsys):
    assert audit(["results/away"]) == 0, capsys.readouterr().out


def of_other_captions(manifest):
    manifest["inputs"]["texts"][0]["path"] = "../../../texts/real/tower.safetensors"


def told_nothing(manifest):
    manifest["inputs"]["texts"] = []


@pytest.mark.parametrize("deed, word", [
    (of_other_captions, "are of captions whose states are not those of"),
    (told_nothing, "with 1 and 0 files of states")])
def test_samples_of_other_captions_than_they_say_are_found(here, tmp_path, deed, word):
    results = shutil.copytree(here / "results/away", tmp_path / "results/away")
    remake(results, {results / "runs/first/seed-0/samples.safetensors": deed})
    table = results / "table2a.csv"
    problems = found(table).results[table].problems
    assert word in " ".join(one.detail for one in problems)


JUDGED = "judged/eye/second/first/seed-0.json"


def of_each_other(manifest):
    read = manifest["inputs"]
    read["samples"], read["than"] = read["than"], read["samples"]


def of_other_scorers(manifest):
    manifest["inputs"]["scored"].reverse()


def of_other_prompts(manifest):
    manifest["inputs"]["captions"][0]["path"] = "../../../../data/real.safetensors"


def edited(change):
    """A deed to a judge's answers in the place of one to their manifest."""
    def edit(results):
        found = read_json(results / JUDGED)
        change(found)
        write_json(results / JUDGED, found)
    return edit


ANSWERS = [
    (lambda found: found["pairs"][0].update(verdict="unclear"), "the verdict unclear does not follow from"),
    (lambda found: found["pairs"].pop(), "the pairs are not the 12 that are to be asked about"),
    (lambda found: found["pairs"][2].update(caption="a dog"), "the caption 'a dog', its samples have 'a"),
    (lambda found: found["pairs"][1]["answers"].reverse(), "was not asked about in the orders that"),
    (lambda found: found.update(agreement=1.5), "the agreement 1.5 does not follow from its checks"),
    (lambda found: found.update(checks=[], agreement=None), "0 checks, its specification says 3"),
    (lambda found: found.pop("pairs"), "is no file of a judge's answers (KeyError 'pairs')")]


@pytest.mark.parametrize("name, deed, word", [
    (JUDGED, of_each_other, "first/seed-0/samples.safetensors, which is not runs/second/seed-0"),
    (JUDGED, of_other_prompts, "is of the captions of results/away/data/real.safetensors"),
    ("table2a.csv", of_other_scorers, "scores-two.safetensors is shown as scores-one"),
    ("figure7.png", lambda found: found["spec"].update(than="second"), "of eye and first, its specification"),
    *((JUDGED, edited(change), word) for change, word in ANSWERS)])
def test_scores_and_answers_of_others_are_found(here, tmp_path, monkeypatch, name, deed, word):
    """With all digests made to fit, as one who knows how would."""
    results = shutil.copytree(here / "results/away", tmp_path / "results/away")
    monkeypatch.chdir(tmp_path)
    if deed.__name__ == "edit":
        deed(results)
    remake(results, {} if deed.__name__ == "edit" else {results / name: deed})
    details = " ".join(one.detail for one in found(results / name).results[results / name].problems)
    assert word in details


def test_each_distinct_caption_has_states_once(here):
    mixture = read("results/away/mixtures/told/plus-made/clean-1.0.safetensors")
    assert len(mixture.ids) == 90 and mixture.captions.texts == sorted(SAID)
    assert not (here / "results/away/texts/made").exists()  # its captions are those of `real`
    for name, captions in (("real", 6), ("asked", 2)):
        assert read_arrays(f"results/away/texts/{name}/tower.safetensors")["states"].shape == (captions, 6, 8)
    levels = read_arrays("results/away/annotations/told/plus-made/by-source.safetensors")["sigma_min"]
    assert levels[mixture.corrupted == 1].tolist() == [0.5] * 30 and not levels[mixture.corrupted == 0].any()


def test_the_log_says_what_experts_took(here):
    lines = (here / RUNS / "first/seed-0/loss.jsonl").read_text().splitlines()
    for line in map(json.loads, lines):  # 8 of 16 patches stay; the mixer sees all of them
        assert line["tokens_an_expert"] == [16.0] and line["nobodys_tokens"] == [0.0]


def test_a_phase_goes_on_with_weights_and_moments(here):
    first, second = (load_file(f"{RUNS}/{run}/seed-0/denoiser.safetensors") for run in ("first", "second"))
    assert {name.partition(".")[0] for name in first if name.startswith("state/")} == {
        "state/weights", "state/step", "state/exp_avg", "state/exp_avg_sq"}
    assert not any(name.startswith("state/") for name in second)
    assert {int(one) for name, one in first.items() if name.startswith("state/step.")} == {4}
    about = manifest.read(manifest.path_for(here / RUNS / "second/seed-0/denoiser.safetensors"))["spec"]
    assert about["start"] == {"nimg": 128, "moments": True, "seen": 128}


# --- sampling ---------------------------------------------------------------------------------------------


def drawer(run, each=2):
    """What draws the samples of a run, and how the settings say that it does."""
    experiments = Experiments("config", "away")
    spec, where = experiments.sampling(run), torch.device("cpu")
    sampled = load_sampled(f"{RUNS}/{run}/seed-0/denoiser.safetensors", None, None, spec, where)
    states = told(read("results/away/data/asked.safetensors").captions,
                  ["results/away/texts/asked/tower.safetensors"])
    return Draw(*sampled, spec.sampler, spec.precision, where, None, states, each), states


def test_samples_follow_their_captions_whatever_the_batch(here):
    stored = read_arrays(f"{RUNS}/second/seed-0/samples.safetensors")["128"][0]
    draw, states = drawer("second")
    parts = np.concatenate([draw.images(0, range(first, first + 4)) for first in (8, 12)])
    np.testing.assert_array_equal(parts, stored[8:16])
    # Sample 8 is of prompt 8 // 2 = 4, which is prompt 1 of 3.
    told_of_8 = draw.condition(0, range(8, 9))["text"][0]
    np.testing.assert_array_equal(told_of_8, states[np.array([1])][0].astype(np.float32))
    with pytest.raises(ValueError, match="states of captions have no channels, the denoiser is told 8"):
        Draw(draw.denoiser, {"channels": 1, "resolution": 8, "num_classes": 0, "text": [6, 8],
                             "spec": {"network": {"conditional": True}}}, draw.sampler, "float32", draw.where)


def test_own_captions_give_images_of_their_own(here, tmp_path, monkeypatch):
    line = ["away", "--run", "second", "a red cat", "a green dog", "--count", "2", "--out"]
    assert generate.main([*line, str(tmp_path / "o")]) == 0
    names = [generate.name(text, k) for text in ("a red cat", "a green dog") for k in range(2)]
    made = [pixels_of(tmp_path / "o" / name) for name in names]
    stored = read_arrays(f"{RUNS}/second/seed-0/samples.safetensors")["128"][0]
    np.testing.assert_array_equal(made[:2], stored[:2])  # the first prompt, with the same latents
    assert (made[0] != made[2]).any()
    (tmp_path / "c.csv").write_text("caption\na green  dog\n")
    alone = [*line[:3], "--count", "1", "--out", str(tmp_path / "alone")]
    generate.main([*alone, "--file", str(tmp_path / "c.csv")])
    np.testing.assert_array_equal(pixels_of(tmp_path / "alone" / names[2]), made[2])
    assert Image.open(tmp_path / "o/contact-sheet.png").size[0] > 8
    for more, said in (([], "captions: got \\[\\]"), (["\udcff"], "captions: got .*udcff.*, allowed: texts")):
        with pytest.raises(SpecError, match=said):
            generate.main([*alone, *more])
    for guidance in ("0.5", "1e300", "nan", "-3"):
        with pytest.raises(SpecError, match="^--guidance: got .*, allowed: 1 to 1000; published ones"):
            generate.main([*alone, "a red cat", "--guidance", guidance])
    monkeypatch.chdir(shutil.copytree(here, tmp_path / "copy"))
    path = Path("results/away/text-encoders/tower.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="tower.safetensors: not what its manifest says"):
        generate.main([*line, str(tmp_path / "of-another")])


def test_a_script_draws_the_same_images(here):
    trained = ambient.load_denoiser(f"{RUNS}/second/seed-0/denoiser.safetensors")
    encoder = "results/away/text-encoders/tower.safetensors"
    images = ambient.sample(trained, 2, steps=3, captions=["a red cat"], text_encoder=encoder, guidance=2.0)
    stored = read_arrays(f"{RUNS}/second/seed-0/samples.safetensors")["128"][0]
    np.testing.assert_array_equal(images, stored[:2])
    with pytest.raises(ValueError, match="captions: got none, allowed: one or more"):
        ambient.sample(trained, 2, text_encoder=encoder)
    with pytest.raises(ValueError, match="second is told captions, which takes a text encoder beside it"):
        export.main(["away", "--run", "second", "--out", "exported"])


def test_what_is_left_out_costs_nothing(here):
    costs = Costs(Experiments("config", "away"))
    network = costs.experiments.training("second", 0).network
    assert costs.train("first").flops == 6 * 128 * network.cost(8, 1, mask=0.5).multiply_adds
    assert costs.train("second").flops == 6 * 128 * network.cost(8, 1).multiply_adds
    kept, not_kept = (sizes.bytes_of_run("train", {"run": run}, costs) for run in ("first", "second"))
    left = 3 * 4 * network.cost(8, 1).parameters  # in the state, too, until the job has ended
    assert [a - b for a, b in zip(kept, not_kept, strict=True)] == [left, left]
    # With the null caption as the guide: 2 x 5 evaluations of each of 20 samples.
    assert costs.sample("second").flops == 2 * 2 * 5 * 20 * network.cost(8, 1).multiply_adds


def test_the_command_sample_gives_the_workflows_samples(here, tmp_path):
    sample.main(["away", "--run", "second", "--count", "4", "--out", str(tmp_path / "o")])
    stored = read_arrays(f"{RUNS}/second/seed-0/samples.safetensors")["128"][0]
    for k in range(4):
        np.testing.assert_array_equal(pixels_of(tmp_path / f"o/{k:06}.png"), stored[k])


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("old, new, message", [
    ("text_encoder: tower", "text_encoder: null", "network.conditional: got True, allowed: false, since"),
    ("captions: asked", "captions: digits", "captions: got 'digits', allowed: a dataset with captions"),
    ("caption_dropout: 0.2", "caption_dropout: 0.0", "guide.told: got False, allowed: true, or a training"),
    ("keep_state: true", "keep_state: false", "start.moments: got True, allowed: false, or the last"),
    ("label: masked", "training: {{start: {{run: second}}}}", "start.run: got 'first', allowed: a run that"),
    ("mask: 0.5", "mask: 0.99", "mask: got 0.99")])
def test_settings_that_contradict_each_other_are_refused(tmp_path, old, new, message):
    assert old in OVERLAY
    finished.configure(tmp_path, OVERLAY.replace(old, new, 1).format(here=tmp_path, pins=["a" * 64] * 5))
    with pytest.raises(SpecError, match=message):
        Experiments(tmp_path / "config", "away")


def test_a_job_reads_what_it_is_told(here):
    graph = Graph(Experiments(here / "config", "away"))
    job = graph.maker(f"{RUNS}/second/seed-0/denoiser.safetensors")
    assert set(graph.reads(job)) == {"data", "texts", "start", "annotations"}
    assert graph.reads(job)["texts"] == ["results/away/texts/real/tower.safetensors"]
