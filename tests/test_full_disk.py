"""A disk that is full while a result is written: the stage waits, and writes what it would have written."""

import errno
from types import SimpleNamespace

import numpy as np
import pytest
from tiny import RECORD, SAMPLING, kept, run_training

from ambient.data.datasets import Dataset, write
from ambient.data.texts import Texts
from ambient.jobs import stopping
from ambient.specs import EncoderSpec, EncodingSpec, TextsSpec
from ambient.stages import encode, encoder, sample, texts
from ambient.storage import arrays
from ambient.storage.files import sha256


def sampling(mixture, annotations, folder, monkeypatch):
    """The stage `sample`, of a trained network."""
    files = {"denoiser": run_training(mixture, annotations, folder), "state": kept(folder / "s")}
    return lambda out: sample.main(SAMPLING, RECORD, out=out, **files)


def encoding(mixture, annotations, folder, monkeypatch):
    """The stage `encode`, in three shards."""
    monkeypatch.setattr(encode, "SHARD", 25)
    files = {"data": mixture, "state": kept(folder / "s")}
    spec = EncoderSpec("block_pca", block=4, numbers=4)
    encoder.main(spec, RECORD, weights=None, out=folder / "e", **files)
    return lambda out: encode.main(EncodingSpec("block_pca"), RECORD, encoder=folder / "e", out=out, **files)


def telling(mixture, annotations, folder, monkeypatch):
    """The stage `texts`, in three shards, by an encoder that counts letters."""
    def states(captions):
        return np.array([[[len(one)] * 2] * 3 for one in captions], np.float16)

    fake = SimpleNamespace(spec=SimpleNamespace(kind="openclip", tokens=3, channels=2), states=states,
                           coder=SimpleNamespace(unknown=lambda text: None))
    monkeypatch.setattr(texts, "TextEncoder", lambda *_: fake)
    monkeypatch.setattr(texts, "SHARD", 2)
    captions = Texts.of(["a", "two", "three", "lines", "forever"])
    write(folder / "data", Dataset(np.zeros((5, 1, 4, 4), np.uint8), np.full(5, -1), np.arange(5),
                                   captions=captions))
    files = {"data": folder / "data", "text_encoder": folder / "none", "state": kept(folder / "s")}
    return lambda out: texts.main(TextsSpec("openclip"), RECORD, out=out, **files)


@pytest.mark.parametrize("prepare", [sampling, encoding, telling])
def test_all_shards_are_written_again(prepare, mixture, annotations, tmp_path, monkeypatch, capsys):
    """Space runs out when all of them have been read."""
    run, check, tried = prepare(mixture, annotations, tmp_path, monkeypatch), arrays.Writer.check, []
    run(tmp_path / "whole")

    def full_at_first(self):
        tried.append(self.path)
        if len(tried) == 1:
            raise OSError(errno.ENOSPC, "no space left", str(self.path))
        check(self)

    monkeypatch.setattr(arrays.Writer, "check", full_at_first)
    monkeypatch.setattr(stopping, "DISK_POLL", 0.01)
    run(tmp_path / "again")
    assert len(tried) == 2 and sha256(tmp_path / "again") == sha256(tmp_path / "whole")
    assert "nothing is lost while this waits" in capsys.readouterr().err
