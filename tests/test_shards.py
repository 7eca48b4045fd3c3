"""Work in pieces: shared out between ranks, checked when it is read back, and stopped together."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import CLASSIFIER, NOISE, kept

from ambient import specs
from ambient.annotation import crop_likeness
from ambient.data.datasets import Dataset, write
from ambient.jobs import progress, ranks, shards, stopping
from ambient.specs import strict
from ambient.stages import annotate, classifier


@pytest.fixture
def state(tmp_path):
    return kept(tmp_path / "state")


def numbered(made):
    def make(k):
        made.append(k)
        return {"x": np.full(3, k)}
    return make


PIECES = [(f"piece-{k}", 3) for k in range(5)]


def test_a_flipped_bit_in_a_shard_is_found_and_the_shard_made_again(state, capsys):
    made = []
    first = [shard["x"].copy() for shard in shards.collect("test", state, PIECES, numbered(made))]
    damaged = state.folder / "piece-3.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    (state.folder / "piece-1.json").write_text("{}")
    again = shards.collect("test", state, PIECES, numbered(made))
    assert made == [0, 1, 2, 3, 4, 1, 3]
    np.testing.assert_array_equal([shard["x"] for shard in again], first)
    said = capsys.readouterr().err
    assert "piece-3.safetensors: damaged" in said and "piece-1.json: damaged" in said
    state.put("piece-4", {"x": torch.zeros(2)}, {"images": 2})  # by a machine that cuts smaller pieces
    shards.collect("test", state, PIECES, numbered(made))
    assert made[7:] == [4]
    assert state.remarks()["set_aside"] == ["piece-1.json.aside-1", "piece-1.safetensors.aside-1",
                                           "piece-3.json.aside-1", "piece-3.safetensors.aside-1"]


def test_work_without_pieces_is_refused(state):
    with pytest.raises(ValueError, match="^scores: got no images, allowed: one or more$"):
        shards.collect("scores", state, [], None)


def test_what_earlier_attempts_made_is_not_in_the_rate_and_the_end_is_told(state, monkeypatch, capsys):
    """A piece takes a minute; of five the first three are there. Afterwards all are."""
    now = [0.0]

    def minute(k):
        now[0] += 60
        return {"x": np.full(3, k)}

    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    pieces = [(name, 600) for name, _ in PIECES]
    for name, count in pieces[:3]:
        state.put(name, {"x": torch.zeros(3)}, {"images": count})
    shards.collect("test", state, pieces, minute)
    assert capsys.readouterr().err.splitlines() == ["test: 2,400/3,000 images  10/s  ETA 60 s",
                                                    "test: 3,000/3,000 images  10/s  ETA 0 s"]
    shards.collect("test", state, pieces, None)
    assert capsys.readouterr().err == "test: 3,000/3,000 images  0/s  ETA 0 s\n"


def test_shards_that_exchanged_all_their_files_are_made_again(state, capsys):
    made = []
    first = [shard["x"].copy() for shard in shards.collect("test", state, PIECES, numbered(made))]
    for suffix in ("json", "safetensors"):
        one, other, between = (state.folder / f"{name}.{suffix}" for name in ("piece-1", "piece-2", "aside"))
        one.rename(between), other.rename(one), between.rename(other)
    again = shards.collect("test", state, PIECES, numbered(made))
    assert made == [0, 1, 2, 3, 4, 1, 2]
    np.testing.assert_array_equal([shard["x"] for shard in again], first)
    assert "piece-1.json: damaged (it is the record of piece-2)" in capsys.readouterr().err


def test_ranks_take_pieces_in_turn_and_stop_together(state, monkeypatch, capsys):
    """Two ranks, one after the other in this process: each makes its own pieces, one of them gathers."""
    made = {0: [], 1: []}
    monkeypatch.setattr(ranks, "size", lambda: 2)
    monkeypatch.setattr(ranks, "barrier", lambda: None)
    for number in (1, 0):
        monkeypatch.setattr(ranks, "rank", lambda number=number: number)
        monkeypatch.setattr(ranks, "agree", lambda why: why)
        found = shards.collect("test", state, PIECES, numbered(made[number]))
        assert (found is None) == (number == 1)
    assert made == {0: [0, 2, 4], 1: [1, 3]} and [shard["x"][0] for shard in found] == [0, 1, 2, 3, 4]
    monkeypatch.setattr(ranks, "agree", lambda why: "another rank was asked")
    with pytest.raises(SystemExit) as left:
        shards.collect("test", state, PIECES, None)
    assert left.value.code == stopping.RESUME and "another rank was asked" in capsys.readouterr().err


def test_crops_annotation_is_shared_out_stopped_and_resumed(mixture, tmp_path, monkeypatch):
    made = strict.build(specs.ClassifierSpec, strict.plain(CLASSIFIER) | {"crop": 4}, "test")
    files = {"out": tmp_path / "c.safetensors", "calibration": tmp_path / "c.json"}
    classifier.main(made, SimpleNamespace(facts={}), data=mixture, state=kept(tmp_path / "s"), **files)
    asked = specs.AnnotationSpec("crops", None, 0.05, 6, "geometric", NOISE, 0.05, 20.0, 1, 1, "last",
                                "float32", 0, crop_map="measured")
    data, rows = Dataset(*(np.arange(1200 * n).reshape(1200, *shape).astype(kind) for n, shape, kind in (
        (64, (1, 8, 8), np.uint8), (1, (), np.int64), (1, (), np.int64))), np.ones(1200, np.uint8)), []
    write(tmp_path / "m.safetensors", data)
    crop_map = {"sigmas": [0.1, 1.0], "crop_px": [1, 4], "tolerance": 1e-3}
    (tmp_path / "map.json").write_text(json.dumps(crop_map))
    whole = crop_likeness.patch_probability

    def counted(*arguments):
        rows.append(len(arguments[1]))
        if len(rows) == 1:
            stopping.ask("a test")
        return whole(*arguments)

    monkeypatch.setattr(crop_likeness, "patch_probability", counted)
    files = {"data": tmp_path / "m.safetensors", "classifier": None, "crops": [files["out"]],
             "locality": tmp_path / "map.json", "state": kept(tmp_path / "t"), "summary": tmp_path / "a.json"}
    with stopping.watch(), pytest.raises(SystemExit) as left:
        annotate.main(asked, SimpleNamespace(facts={}), out=tmp_path / "a.safetensors", **files)
    assert left.value.code == stopping.RESUME and len(rows) == 1
    annotate.main(asked, SimpleNamespace(facts={}), out=tmp_path / "a.safetensors", **files)
    assert sum(rows) == 1200
    monkeypatch.setattr(ranks, "size", lambda: 2)
    monkeypatch.setattr(ranks, "barrier", lambda: None)
    monkeypatch.setattr(ranks, "agree", lambda why: why)
    monkeypatch.setattr(ranks, "rank", lambda: 1)
    rows.append(0)
    annotate.main(asked, SimpleNamespace(facts={}), out=tmp_path / "b.safetensors",
                  **files | {"state": kept(tmp_path / "u")})
    assert 0 < sum(rows) - 1200 < 1200 and not (tmp_path / "b.safetensors").exists()


def test_a_checkpoint_holds_its_log(state):
    """The log of the losses is no file of its own that could be lost or altered between two attempts."""
    state.save(10, {"x": torch.zeros(2)}, {"log": ["a"]})
    assert state.get("checkpoint-10")[1]["log"] == ["a"] and state.newest() == 10
