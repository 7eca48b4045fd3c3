"""A scale whose runs are EDM2's, from the images to the audit: network, loss, averages of several widths."""

from pathlib import Path
from types import SimpleNamespace

import finished
import pytest
import torch

from ambient.audit.cli import main as audit
from ambient.audit.traces import Loose, trained
from ambient.commands import scale
from ambient.provenance import manifest
from ambient.settings import Experiments
from ambient.settings.graph import Graph, Node
from ambient.settings.places import Files
from ambient.specs.strict import SpecError, plain
from ambient.training.loading import load_denoiser

OVERLAY = """extends: tiny
studies:
  controlled:
    training:
      network: {kind: mp_unet, model_channels: 8, channel_mult: [1, 2], num_blocks: 1, attn_resolutions: [4],
                channels_per_head: 8, dropout: 0.1, conditional: true}
      augment: {transforms: []}
      optimiser: {nimg: 512, batch: 64, lr: 0.01, decay: inverse_sqrt, decay_nimg: 256, betas: [0.9, 0.99],
                  clip: inf, ema_stds: [0.1, 0.2]}
      loss: {uncertainty: true}
      snapshots: [128, 256, 384, 512]
    sampling: {num_samples: 40, earlier_seeds: 1, seeds: [0], ema_std: 0.14}
datasets: {digits: {max_images: 150, resolution: 8}}
tables: {table2a: {title: Digits, rows: [only-clean]}}
"""
RUN = "results/away/runs/only-clean/seed-0"
MADE = f"{RUN}/denoiser-ema-0.14.safetensors"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Its table, made once."""
    folder, patch = tmp_path_factory.mktemp("edm2"), pytest.MonkeyPatch()
    finished.configure(folder, OVERLAY)
    patch.chdir(folder)
    finished.make(folder, "results/away/table2a.csv")
    patch.undo()
    return folder


def test_samples_are_of_the_width_that_they_ask_for(tree):
    graph = Graph(Experiments(tree / "config", finished.SCALE))
    job = graph.maker(MADE)
    assert job == Node("reconstruct", (("ema_std", "0.14"), ("run", "only-clean"), ("seed", "0")))
    assert graph.reads(job) == {"denoiser": [f"{RUN}/denoiser.safetensors"]}
    assert plain(graph.asks(job)) == {"ema_std": 0.14, "snapshots": [128, 256, 384, 512]}
    read = manifest.read(manifest.path_for(tree / RUN / "samples.safetensors"))["inputs"]["denoiser"]
    assert [entry["path"] for entry in read] == ["denoiser-ema-0.14.safetensors"]
    facts = manifest.read(manifest.path_for(tree / MADE))["facts"]["profile_errors"]
    assert list(facts) == ["128", "256", "384", "512"] and facts["512"] < 0.02
    denoiser, about = load_denoiser(tree / MADE, 512, torch.device("cpu"))
    assert about["spec"]["network"]["kind"] == "mp_unet"
    assert denoiser.model.dropout == 0.1 and not denoiser.training


def test_an_average_is_made_at_the_snapshots_that_are_drawn_from(tmp_path):
    finished.configure(tmp_path, OVERLAY.replace("earlier_seeds: 1", "earlier_seeds: 0"))
    found = Experiments(tmp_path / "config", finished.SCALE)
    assert found.reconstruction("only-clean", 0.14).snapshots == (512,)
    assert found.reconstruction("only-clean", 0.2).snapshots == (128, 256, 384, 512)  # nobody draws
    paper = Experiments("config", "paper")
    for run, std in (("edm2-xs", 0.135), ("edm2-xxl", 0.015), ("guide-xs", 0.045)):
        assert paper.reconstruction(run, std).snapshots == paper.training(run, 0).snapshots[-1:]


def test_commands_take_the_width_that_is_sampled(tree, monkeypatch):
    monkeypatch.chdir(tree)
    found = Experiments(tree / "config", finished.SCALE)
    assert scale.Chosen(found, "only-clean", 0).denoiser.as_posix() == MADE
    assert Files(found).denoiser("only-clean", 0) == MADE


def test_its_table_passes_the_audit(tree, monkeypatch, capsys):
    monkeypatch.chdir(tree)
    assert audit(["results/away"]) == 0, capsys.readouterr().out


def test_samples_of_another_width_than_they_were_told_are_loose():
    """`training` is what the weights are made of, and what all else of a run is held against."""
    def result(stage, name, spec, **inputs):
        read = {role: [{"path": path}] for role, path in inputs.items()}
        return SimpleNamespace(key=Path("r", name), path=f"r/{name}", stage=stage,
                               manifest={"spec": spec, "inputs": read})

    training, averaged = result("train", "d", {}), result("reconstruct", "e", {"ema_std": 0.14}, denoiser="d")
    results = {one.key: one for one in (training, averaged)}
    assert trained(results, result("sample", "s", {"ema_std": 0.14}, denoiser="e")) is training
    assert trained(results, result("sample", "s", {}, denoiser="d")) is training
    for spec, read, said in (({"ema_std": 0.15}, "e", "r/s was told ema_std 0.15, r/e has 0.14"),
                             ({}, "e", "r/s was told ema_std None, r/e has 0.14"),
                             ({"ema_std": 0.14}, "d", "r/s was told ema_std 0.14, r/d has None")):
        with pytest.raises(Loose, match=said):
            trained(results, result("sample", "s", spec, denoiser=read))


@pytest.mark.parametrize(("key", "change", "message"), [
    (", ema_stds: [0.1, 0.2]", "", "sampling.ema_std: got 0.14, allowed: null: the training keeps no"),
    ("ema_std: 0.14", "ema_std: 0.4", r"sampling.ema_std: got 0.4, allowed: \(0, 0.2887\), or null"),
    ("augment: {transforms: []}", "augment: {transforms: [xflip]}",
     r"augment.transforms: got \('xflip',\), allowed: \[\]: network mp_unet has no input"),
    ("channels_per_head: 8", "channels_per_head: 6", "channels_per_head: got 6, allowed: a divisor")])
def test_what_does_not_fit_is_refused_before_anything_runs(tmp_path, key, change, message):
    assert key in OVERLAY
    finished.configure(tmp_path, OVERLAY.replace(key, change))
    with pytest.raises(SpecError, match=message):
        Experiments(tmp_path / "config", finished.SCALE)
