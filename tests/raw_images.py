"""Raw images for the tests of reading: encoded, zipped or in a folder, prepared or refused."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from ambient.data.datasets import read
from ambient.jobs.stage import Record
from ambient.specs import DatasetSpec
from ambient.stages import prepare
from tests.tiny import kept

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
IMAGES = DatasetSpec("images", 8, 3)


def noisy(seed, height=12, width=20):
    """Pixels (H, W, 3) of noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def encoded(pixels, kind="PNG", mode=None):
    buffer = io.BytesIO()
    picture = Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(buffer, kind)
    return buffer.getvalue()


def files_of(count=6):
    return {f"00000/img{i:08d}.png": encoded(PIXELS[i]) for i in range(count)}


def listed(labels):
    return {"dataset.json": json.dumps({"labels": labels}).encode()}


def make_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make_folder(path, files):
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def prepared(spec, raw, tmp_path):
    record = Record()
    prepare.main(spec, record, raw=raw, state=kept(tmp_path / "state"), out=tmp_path / "out.safetensors")
    return read(tmp_path / "out.safetensors"), record


def outside(record):
    """The one raw file or folder that a record notes."""
    (noted,) = record.outside
    return noted["name"], noted["file"], noted["origin"], noted["sha256"]


def refused(spec, raw, tmp_path, *words):
    """`main` raises one line that holds all the words, and writes nothing."""
    with pytest.raises((ValueError, OSError)) as caught:
        prepared(spec, raw, tmp_path)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)
    assert not (tmp_path / "out.safetensors").exists()
