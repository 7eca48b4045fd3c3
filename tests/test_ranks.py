"""Several ranks at one training: what they end in, however often they are killed or run out of memory."""

import time

import pytest
from forks import (
    Ranks,
    edm2,
    losses_with_an_unused_weight,
    measure,
    save_on_a_full_disk,
    train,
    train_edm2,
    train_short_at,
)
from safetensors.torch import load_file
from tiny import DETECTOR, RECORD, kept, run_training
from torch.testing import assert_close

from ambient.data.datasets import read
from ambient.jobs import records
from ambient.stages import detector
from ambient.storage.files import sha256
from ambient.training.weights import read_weights

FREE = [16] * 4  # rows that a rank has memory for: all of a batch
OFTEN = {"AMBIENT_CHECKPOINT_SECONDS": "0"}


def training(folder, mixture, annotations, size, limits=FREE, broken=0, environment=None):
    """Ranks that train in a folder, and go on where others were stopped."""
    return Ranks(size, folder, train, limits[:size], broken, mixture, annotations, folder,
                 environment=environment)


def checkpoints(folder):
    return sorted(int(path.stem.split("-")[1]) for path in folder.glob("state/*/checkpoint-*.json"))


def wait(condition, process):
    until = time.monotonic() + 60
    while not condition():
        assert process.is_alive() and time.monotonic() < until
        time.sleep(0.002)


@pytest.fixture(scope="module")
def alone(mixture, annotations, tmp_path_factory):
    """The weights of one rank's training, which is undisturbed."""
    return read_weights(run_training(mixture, annotations, tmp_path_factory.mktemp("alone")))


@pytest.mark.parametrize(("size", "kills"), [(2, 1), (4, 5)])
def test_killed_ranks_end_in_the_same_bytes(size, kills, mixture, annotations, alone, tmp_path):
    """SIGKILL after checkpoints; an undisturbed training beside it, and that of one rank but for rounding.

    Sums of four ranks show their order, which two ranks hide.
    """
    training(tmp_path / "whole", mixture, annotations, size).done()
    folder = tmp_path / "killed"
    for kill in range(1, kills + 1):
        ranks = training(folder, mixture, annotations, size, environment=OFTEN)
        wait(lambda goal=16 * kill: checkpoints(folder)[-1:] >= [goal], ranks.processes[0])
        ranks.kill()
    said = training(folder, mixture, annotations, size, environment=OFTEN).done()
    assert "resuming after" in said
    for name in ("denoiser.safetensors", "loss.jsonl"):
        assert sha256(tmp_path / "whole" / name) == sha256(folder / name)
    found = read_weights(folder / "denoiser.safetensors")
    for name, tensor in alone.items():
        assert_close(found[name], tensor, rtol=1e-3, atol=1e-5)


def test_a_rank_with_less_memory_has_all_take_smaller_parts(mixture, annotations, alone, tmp_path):
    """Found before a first step; when it is found later, the next attempt takes parts of half the size."""
    ranks = training(tmp_path, mixture, annotations, 2, [8, 4], broken=3)
    ranks.processes[1].join(60)
    assert ranks.processes[1].exitcode == 1
    ranks.kill()  # as a launcher does
    assert "a batch of 16 goes on in 2 parts on each rank" in ranks.said()
    assert ("out of GPU memory after 32 images, with a batch of 16 in 2 parts on each of 2 ranks; the same "
            "command goes on from the last checkpoint, in 4 parts") in ranks.said()
    training(tmp_path, mixture, annotations, 2, [2, 2]).done()
    for name, tensor in read_weights(tmp_path / "denoiser.safetensors").items():
        assert_close(tensor, alone[name], rtol=1e-3, atol=1e-5)


def test_memory_that_ends_before_the_first_step_is_noted_too(mixture, annotations, tmp_path):
    """What has to lie beside the gradients comes after the trial: moments, averages and a first exchange."""
    ranks = Ranks(2, tmp_path, train_short_at, "settle", mixture, annotations, tmp_path)
    ranks.processes[1].join(60)
    assert ranks.processes[1].exitcode == 1
    ranks.kill()  # as a launcher does
    assert ("out of GPU memory after 0 images, with a batch of 16 in 1 parts on each of 2 ranks; the same "
            "command goes on from the last checkpoint, in 2 parts") in ranks.said()
    (note,) = tmp_path.glob("state/*/parts.json")
    assert records.read(note) == {"ranks": 2, "parts": 2, "note": "parts"}


def test_weights_that_no_loss_uses_stay_as_they_are(tmp_path):
    """AdamW would make them smaller, were they given a gradient of zero."""
    losses_with_an_unused_weight(tmp_path / "1")
    Ranks(2, tmp_path, losses_with_an_unused_weight, tmp_path / "2").done()
    one, two = load_file(tmp_path / "1"), load_file(tmp_path / "2")
    assert (two["unused.weight"] == 0.5).all() and (two["used.weight"] != 0.5).all()
    for name, tensor in one.items():
        assert_close(two[name], tensor)


def test_ranks_that_share_a_datasets_features_sum_what_one_does(mixture, tmp_path):
    detector.main(DETECTOR, RECORD, data=mixture, weights=None, state=kept(tmp_path / "s"),
                  out=tmp_path / "net")
    for size in (1, 3):
        folder = tmp_path / str(size)
        Ranks(size, folder, measure, DETECTOR, mixture, tmp_path / "net", folder).done()
    assert sha256(tmp_path / "1/moments") == sha256(tmp_path / "3/moments")
    shards = len(list((tmp_path / "3/state").glob("*/features-*.safetensors")))
    assert shards == -(-len(read(mixture).ids) // 8) > 3


# --- weights that ranks share ---------------------------------------------------------------------------

SHARED = {"AMBIENT_SHARD_WEIGHTS": "1"}


def shards(folder):
    """The files of the newest checkpoint, names and tensors of each."""
    newest = next(folder.glob(f"state/*/checkpoint-{checkpoints(folder)[-1]}.json")).with_suffix("")
    return [load_file(file) for file in sorted(newest.glob("*")) or [newest.with_suffix(".safetensors")]]


def test_ranks_that_share_the_weights_train_what_one_does(mixture, annotations, tmp_path):
    """Two averages, normalised weights, numbers. Others go on: of 1 rank 4, of those 2, of those 1."""
    alone = read_weights(run_training(mixture, annotations, tmp_path / "alone", edm2()))
    folder = tmp_path / "shared"
    for size, environment, stop in [(1, {}, 1), (4, SHARED, 1), (2, SHARED, 1), (1, {}, 0)]:
        ranks = Ranks(size, folder, train_edm2, stop, mixture, annotations, folder, environment=environment)
        ranks.done(75 if stop else 0)
        rows = [file["exp_avg.model.emb_noise.weight"].shape[0] for file in shards(folder)]
        assert rows == [8 // size] * size  # nobody has written, nor had, more than a part
    found = read_weights(folder / "denoiser.safetensors")
    assert found.keys() == alone.keys() and sum(name.endswith("out_gain") for name in found) == 2
    for name, tensor in alone.items():
        assert_close(found[name], tensor, rtol=1e-3, atol=1e-5)


def test_a_damaged_shard_costs_one_checkpoint_and_no_bit(mixture, annotations, tmp_path):
    whole, folder = tmp_path / "whole", tmp_path / "damaged"
    Ranks(2, whole, train_edm2, 0, mixture, annotations, whole, environment=SHARED).done()
    ranks = Ranks(2, folder, train_edm2, 0, mixture, annotations, folder, environment=SHARED | OFTEN)
    wait(lambda: len(checkpoints(folder)) == 2, ranks.processes[0])
    ranks.kill()
    newest = next(folder.glob(f"state/*/checkpoint-{checkpoints(folder)[-1]}"))
    file = sorted(newest.glob("*"))[1]
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    said = Ranks(2, folder, train_edm2, 0, mixture, annotations, folder, environment=SHARED).done()
    assert f"{newest}: damaged (its digest differs" in said and "resuming after" in said
    assert sha256(whole / "denoiser.safetensors") == sha256(folder / "denoiser.safetensors")


def test_a_disk_that_is_full_for_the_first_rank_alone_is_waited_for(tmp_path):
    """The others wait for it at the end of the checkpoint: it doesn't begin again without them."""
    said = Ranks(2, tmp_path, save_on_a_full_disk, tmp_path).done()
    assert said.count("nothing is lost while this waits") == 2
    assert kept(tmp_path / "state").facts("checkpoint-16") == {"log": []}
