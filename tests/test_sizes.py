"""Bytes that jobs are expected to write, against those that the same jobs write."""

import finished
import numpy as np
import pytest
import yaml
from safetensors import safe_open

from ambient.cluster import plan, sizes
from ambient.cluster.cost import Costs
from ambient.commands import job as jobs
from ambient.evaluation import neighbours
from ambient.jobs.identity import Identity
from ambient.settings import Experiments
from ambient.settings.graph import Graph
from ambient.storage.files import sha256_of_raw

HELD = "resolution: 16}, held: {like: digits, max_images: 15, part: [0.5, 0.6]}}"  # unseen digits
OVERLAY = finished.OVERLAY.replace("resolution: 8}}", HELD) + """scorers:
  sharp: {kind: measure, measure: sharpness}
figures:
  near:
    {kind: neighbours, title: Near, study: controlled, runs: [only-clean, ambient-blur-0.6], unseen: held,
     best: {scorer: sharp, share: 0.4, within: all}}
"""
TARGETS = ["results/away/neighbours/near.csv", "results/away/runs/only-clean/seed-0/metrics.json",
           "results/away/outside/theirs.json"]


def bytes_of_tensors(folder):
    """Bytes of all tensors in the files of a folder."""
    found = 0
    for path in folder.rglob("*.safetensors"):
        with safe_open(path, "numpy") as file:
            found += sum(file.get_tensor(name).nbytes for name in file.keys())
    return found


def test_states_are_as_large_as_they_are_counted(tmp_path, monkeypatch):
    """Each job of a small scale is run, and its state is weighed when it is removed."""
    finished.configure(tmp_path, OVERLAY)
    monkeypatch.chdir(tmp_path)
    np.save("theirs.npy", np.random.default_rng(0).integers(0, 256, (40, 16, 16), np.uint8))
    (tmp_path / "config/outside").mkdir()
    (tmp_path / "config/outside/theirs.yaml").write_text(yaml.safe_dump({
        "scale": finished.SCALE, "table": "table2a", "label": "Theirs", "path": str(tmp_path / "theirs.npy"),
        "sha256": sha256_of_raw(tmp_path / "theirs.npy")[0]}))
    for module, name in ((neighbours, "SHARD"), (sizes, "COMPARED")):
        monkeypatch.setattr(module, name, 20)
    forget, weighed, ratios = Identity.forget, {}, {}

    def weigh(owner, root):
        weighed["state"] = bytes_of_tensors(root)
        forget(owner, root)

    monkeypatch.setattr(Identity, "forget", weigh)
    graph = Graph(Experiments(tmp_path / "config", finished.SCALE))
    for one in graph.behind(TARGETS):
        weighed.clear()
        jobs.run(graph, one)
        kept, counted = sizes.bytes_of(one.kind, one.names, Costs(graph.experiments))
        if one.kind == "train":
            counted = (kept + counted) // 2  # so short a training has one checkpoint, and not two
        if counted:
            ratios.setdefault(one.kind, []).append(weighed["state"] / counted)
    assert sorted(ratios) == ["annotate", "classifier", "evaluate", "neighbours", "outside", "reference",
                              "sample", "train"]
    # Of a classifier the head is not counted; 121 images of 150 were corrupted, of which 120 are expected.
    assert ratios.pop("classifier") == pytest.approx([1], rel=0.03)
    assert ratios.pop("annotate") == pytest.approx([121 / 120])
    assert ratios.pop("train") == pytest.approx(2 * [1], rel=0.02)  # parameters of norms are not counted
    assert {ratio for each in ratios.values() for ratio in each} == {1}


def test_what_lies_on_the_disk_at_the_papers_scale():
    assert sizes.COMPARED == neighbours.SHARD == 1000
    costs = Costs(Experiments(finished.ROOT / "config", "paper"))
    samples, every, held = 30_000, 1_281_167, 50_000  # the good ones are a tenth of both
    shards = 25 * held // 1000, held // 1000, 25 * (held // 10) // 1000, held // 10 // 1000
    least = 8 * samples * (25 * shards[0] + shards[1] + 25 * shards[2] + shards[3])
    assert every // held == 25 and sizes.bytes_of("neighbours", {"near": "memorisation"}, costs) == (
        0, 4 * 1024 * samples + least)
    curves = {"study": "controlled", "corruption": "blur-0.6", "annotation": "per-sample-leaky"}
    assert sizes.bytes_of("annotate", curves, costs) == (0, 45_000 * 2048 * 4)
    kept, state = sizes.bytes_of("classifier", curves | {"classifier": "balanced"}, costs)
    assert 70e6 < kept < 90e6 and state == (15 + 8) * kept
    assert plan.disk_bytes(costs.experiments, "table2a")["noise classifiers"] == 8 * kept
    for kind, names in (("noise_floor", {"floor": "noise-floor"}), ("locality", {"study": "cats"})):
        assert sizes.bytes_of(kind, names, costs) == (0, 0)  # some numbers for each level
