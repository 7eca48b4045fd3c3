"""Benchmarks compare ways of doing the same work: what each computes, not how long it takes."""

from __future__ import annotations

import dataclasses
import json
import time
import warnings

import pytest
import torch

from ambient.settings import Experiments
from ambient.specs.stages import STAGES
from ambient.specs.strict import plain, to_json
from ambient.training.loop import Fit
from benchmarks import edm2, gpu, jobs, microdit, suspects, timing, training, transformer
from benchmarks.__main__ import HEAD, line
from benchmarks.timing import Pair, paired
from benchmarks.works import WORKS


def test_the_ways_alternate_and_are_compared_repeat_by_repeat():
    calls = []
    pair = paired("work", "images", 6, *(lambda way=way: calls.append(way) for way in "po"), 2, 1.0,
                  lambda: calls.append("a"))
    assert "".join(calls) == "poa" * 3 and len(pair.autocast) == 2
    pair = Pair("work", "images", 6, (4.0, 6.0, 9.0), (2.0, 2.0, 3.0), 0.5, None, 1.5, (3.0, 2.0, 6.0))
    cells = line(pair, {"bfloat16": 10.0}).split(" | ")
    assert cells == ["| work", "1 images/s", "2 images/s", "3 images/s", "3.00 (2.00 to 3.00)",
                     "1.50 (1.00 to 2.00)", "4.00", "15% |"]
    assert len(HEAD.splitlines()[0].split(" | ")) == len(cells)


@pytest.mark.parametrize("kind", [training.PlainFit, training.DefaultFit])
def test_a_baseline_does_the_work_of_ours(kind):
    """Two steps in float32 on the same batches: losses and weights are equal but for rounding."""
    spec = Experiments("config", "demo").training("ambient-blur-0.6", 0)
    network = dataclasses.replace(spec.network, model_channels=8, channel_mult=(1, 2))
    chosen = dataclasses.replace(spec.optimiser, batch=4, nimg=8, ramp_nimg=0, precision="float32")
    spec = dataclasses.replace(spec, network=network, optimiser=chosen, snapshots=(8,))
    found = {}
    for one in (Fit, kind):
        batches = training.batches(spec, 16, 1, 40)
        fitting = one(batches.denoiser, chosen)
        losses = [float(fitting.step(batches.loss, nimg)) for nimg in (4, 8)]
        averages = fitting.ema if one is kind else fitting.averages[0]
        found[one] = losses, fitting.weights, averages
    assert found[kind][0] == pytest.approx(found[Fit][0], rel=1e-4)
    for ours, theirs in zip(found[Fit][1] + found[Fit][2], found[kind][1] + found[kind][2], strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", jobs.JOBS)
def test_each_job_of_the_memory_benchmark_is_one_that_a_stage_accepts(tmp_path, name):
    networks = jobs.Made(tmp_path, lambda name, job: {})  # they are named, and not made
    stage, spec, files = jobs.JOBS[name](jobs.Files(tmp_path / "files", 24), networks)
    row = STAGES[stage]
    assert isinstance(spec, row.spec) and json.loads(to_json(spec)) == json.loads(json.dumps(plain(spec)))
    needed = {role for role in row.inputs if not role.endswith(("?", "*"))}
    assert needed <= {option.replace("-", "_") for option in files}


def written(tmp_path, monkeypatch, *names):
    """The rows that `python -m benchmarks.gpu` writes in miniature, and its page; nothing is compiled."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **options: None)
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    # Large products of bfloat16 take minutes on a processor without it.
    monkeypatch.setitem(timing.SIDE, "cpu", 64)
    page = tmp_path / "gpu.md"
    gpu.main(["--device", "cpu", "--quick", "--minutes", "60", "--out", str(page), *names])
    return json.loads(page.with_suffix(".json").read_text())["rows"], page.read_text()


def test_the_gpu_benchmark_measures_every_row(tmp_path, monkeypatch):
    rows, page = written(tmp_path, monkeypatch)
    assert [row for row in rows if "error" in row] == []
    assert len(rows) == 4 * len(WORKS) + 2 + len(suspects.SUSPECTS)
    for row in rows:
        name = row.get("name", "")
        assert (WORKS[name].name if name in WORKS else name) in page
        assert row["part"] == gpu.SYNCHRONISATIONS or row["images_per_s"]
    network = next(row for row in rows if row["name"] == "cifar10")
    assert network["tflops"] == pytest.approx(network["images_per_s"] * gflop_of_a_step() / 1e3, rel=1e-3)
    assert network["together"] == 4 and network["parts"] == 1
    transformer = [row for row in rows if row.get("name") == "microdit-xl" and row["kind"] == "training"]
    assert [row["parts"] for row in transformer] == [4, 4]
    assert all(0 < sum(row["profile"].values()) <= 1 for row in rows if row.get("compiled"))


def gflop_of_a_step():
    """Of an image and the miniature of the CIFAR-10 network, by torch's own count."""
    spec = gpu.Size(True).spec(WORKS["cifar10"], 4)
    return training.gflop_per_image(spec, 8, 3)


def test_a_row_that_fails_or_takes_too_long_ends_no_other(tmp_path, monkeypatch):
    def failing(size):
        raise ValueError("no such thing\nand more")

    monkeypatch.setattr(gpu, "ROW_SECONDS", 15)
    for name, ways in (("parts", failing), ("tf32", lambda size: (lambda: time.sleep(100), time.sleep))):
        changed = dataclasses.replace(suspects.SUSPECTS[name], ways=ways)
        monkeypatch.setitem(suspects.SUSPECTS, name, changed)
    rows, page = written(tmp_path, monkeypatch, "parts", "tf32", "ema-rarely")
    errors = [row.get("error") for row in rows]
    assert errors == ["ValueError: no such thing", "OutOfTimeError: more than 15 s", None]
    assert "| ValueError: no such thing |" in page


def test_waits_are_counted_by_their_lines():
    def waits():
        for said in (suspects.SYNCHRONISES, "something else"):
            warnings.warn(said, stacklevel=1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = suspects.synchronisations(lambda: [waits() for _ in range(3)])
    (place, count), = found.items()
    assert place.startswith("test_benchmarks.py:") and count == 3


def test_the_plain_transformer_is_ours():
    """Written from the formulas alone, it gives the same for equal weights, with all patches and with few."""
    small = {"model_channels": 64, "depth": 3, "mixer_channels": 32, "mixer_depth": 2, "caption_channels": 16,
             "channels_per_head": 16, "round_to": 16}
    spec = microdit.specification(microdit.tiny() | small, 4, 0.75, "float32", 2)
    denoiser = microdit.built(spec)
    theirs = microdit.plainly(denoiser, spec)
    microdit.agree(denoiser, theirs)
    theirs.w["blocks.1.mlp.gate.weight"] += torch.randn_like(theirs.w["blocks.1.mlp.gate.weight"])
    with pytest.raises(RuntimeError, match="the plain network is another than ours"):
        microdit.agree(denoiser, theirs)


def test_the_plain_network_of_edm2_is_ours():
    """Written from the formulas alone, it gives the same for equal weights."""
    network = {"model_channels": 32, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [4],
               "channels_per_head": 16}
    spec = edm2.specification(network, 4, "float32")
    denoiser = edm2.built(spec, 8)
    theirs = edm2.PlainNetwork({name: one.clone() for name, one in denoiser.state_dict().items()}, 8, network)
    edm2.agree(denoiser, theirs, 8)
    theirs.w["model.enc.4x4_block0.attn_qkv.weight"].neg_()
    with pytest.raises(RuntimeError, match="the plain network is another than ours"):
        edm2.agree(denoiser, theirs, 8)


def test_a_dense_layer_of_equal_cost_has_the_arithmetic_of_experts():
    """But for rounding and the gate; one-hot rows double it at 1,024 tokens."""
    found = transformer.counted(1024)
    gate = 2 * 1024 * transformer.WIDTH * 8 / 1e9
    dense, index = found["a dense MLP of equal cost"], found[transformer.INDEX]
    assert index == pytest.approx(2 * 2 * 2 * 1024 * transformer.WIDTH * transformer.INSIDE / 1e9 + gate)
    assert dense == pytest.approx(index - gate, rel=1e-3)
    rows = 2 * 2 * 2 * 1024 * 1024 * transformer.WIDTH / 1e9  # gathered and added, two experts a token
    assert found["experts by one-hot rows"] == pytest.approx(index + rows)
