"""Raw data at work: they change while they are read, are larger than memory, are fetched by several jobs."""

import hashlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from ambient.cluster.cost import Costs
from ambient.data import procedural
from ambient.data.image_files import Images
from ambient.data.raw import Raw
from ambient.data.sources import cifar10
from ambient.jobs import guard
from ambient.specs import DatasetSpec
from ambient.storage.files import HELD, sha256_of_raw
from tests.raw_images import IMAGES, PIXELS, encoded, files_of, make_folder, make_zip, prepared, refused

CLASSES = {f"{name}/{i}.png": encoded(PIXELS[i]) for i, name in enumerate(("cat", "dog", "cat"))}


def change(when, path, how):
    """`Raw.read` that changes the folder once, when a file is asked for."""
    original = Raw.read

    def read(self, name):
        content = original(self, name)
        if name == when:
            how(path)
        return content
    return read


@pytest.mark.parametrize("how", [
    lambda path: (path / "cat/0.png").write_bytes(encoded(PIXELS[5])),
    lambda path: (path / "dog/7.png").write_bytes(encoded(PIXELS[5])),
    lambda path: (path / "cat/0.png").unlink()])
def test_a_folder_that_changes_while_it_is_read_is_refused(how, tmp_path, monkeypatch):
    """A file that was read already becomes another, or a new one comes, or one goes."""
    raw = make_folder(tmp_path / "raw", CLASSES)
    monkeypatch.setattr(Raw, "read", change("cat/2.png", raw, how))
    refused(IMAGES, raw, tmp_path, str(raw), "changed while it was read")


def test_a_file_that_changes_before_it_is_read_is_recorded_as_it_was_read(tmp_path, monkeypatch):
    raw = make_folder(tmp_path / "raw", CLASSES)
    monkeypatch.setattr(Raw, "read", change(
        "cat/2.png", raw, lambda path: (path / "dog/1.png").write_bytes(encoded(PIXELS[5]))))
    data, record = prepared(IMAGES, raw, tmp_path)
    np.testing.assert_array_equal(data.images[2], PIXELS[5].transpose(2, 0, 1))
    assert (record.outside[0]["sha256"], record.outside[0]["size"]) == sha256_of_raw(raw)


def test_a_zip_that_is_replaced_while_it_is_read_is_refused(tmp_path, monkeypatch):
    raw = make_zip(tmp_path / "r.zip", files_of())
    original = Images.decode

    def decode(self, name):
        make_zip(tmp_path / "other.zip", files_of(3))
        os.replace(tmp_path / "other.zip", raw)
        return original(self, name)
    monkeypatch.setattr(Images, "decode", decode)
    refused(IMAGES, raw, tmp_path, "r.zip changed while it was read")


def test_a_touched_file_is_not_a_changed_one(tmp_path, monkeypatch):
    raw = make_folder(tmp_path / "raw", CLASSES)
    monkeypatch.setattr(Raw, "read", change(
        "cat/2.png", raw, lambda path: os.utime(path / "cat/0.png", (1, 1))))
    _, record = prepared(IMAGES, raw, tmp_path)
    assert (record.outside[0]["sha256"], record.outside[0]["size"]) == sha256_of_raw(raw)


def test_raw_data_that_change_while_they_are_read_are_refused(tmp_path):
    (tmp_path / "raw/a").mkdir(parents=True)
    (tmp_path / "raw/a/1.png").write_text("x")
    before = {tmp_path / "raw": guard.fingerprint(tmp_path / "raw")}
    outside = [{"sha256": sha256_of_raw(tmp_path / "raw")[0]}]
    guard.unchanged(before, {}, [])
    os.utime(tmp_path / "raw/a/1.png", (1, 1))
    guard.unchanged(before, {}, outside)
    (tmp_path / "raw/a/2.png").write_text("y")
    with pytest.raises(ValueError, match="raw changed while it was read"):
        guard.unchanged(before, {}, outside)


MEASURE = """
import resource, sys
from pathlib import Path
from ambient.stages import prepare
from ambient.specs import DatasetSpec
from ambient.jobs.stage import Record
from tests.tiny import kept
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
prepare.main(DatasetSpec("images", 64, 3), Record(), raw=Path(sys.argv[1]), out=Path(sys.argv[2]),
             state=kept(Path(sys.argv[2]).with_name("state")))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_memory_is_of_a_few_images_not_of_all(tmp_path):
    """48 images of 1024x1024 pixels take 151 MB; the peak grows by less than ten of them."""
    content = encoded(np.broadcast_to(np.uint8([10, 120, 250]), (1024, 1024, 3)), "JPEG")
    raw = make_folder(tmp_path / "raw", {f"{i}.jpg": content for i in range(48)})
    done = subprocess.run([sys.executable, "-c", MEASURE, raw, tmp_path / "out.safetensors"], text=True,
                          capture_output=True, check=True, cwd=Path(__file__).parents[1])
    assert float(done.stdout) < 32


@pytest.mark.parametrize(("count", "prepared_mb"), [(50, 50 * 3 * 512**2 / 1e6), (5239, HELD / 1e6)])
def test_the_cost_model_asks_for_prepared_images_that_are_in_memory_and_a_few_raw_ones(count, prepared_mb):
    class Afhq:
        @staticmethod
        def dataset(name):
            return DatasetSpec("images", 512, 3, num_images=count)
    assert prepared_mb + 500 < Costs(Afhq).prepare("dogs").memory_mb < 1.2 * prepared_mb + 1000


def test_jobs_that_need_the_same_download_fetch_it_once_and_see_it_whole(tmp_path, monkeypatch):
    import torchvision.datasets.utils
    content, asked, seen = b"archive" * 1000, [], []

    def slow(url, root, filename, md5):
        asked.append(filename)
        with open(Path(root) / filename, "wb") as file:
            for part in range(0, len(content), 700):
                file.write(content[part:part + 700])
                file.flush()
                seen.append((tmp_path / cifar10.CIFAR_NAME).exists())
                time.sleep(0.01)
    monkeypatch.setenv("AMBIENT_DATA", str(tmp_path))
    monkeypatch.setattr(cifar10, "CIFAR_MD5", hashlib.md5(content).hexdigest())
    monkeypatch.setattr(torchvision.datasets.utils, "download_url", slow)
    found = []
    spec = DatasetSpec("cifar10", 32, 3)
    jobs = [threading.Thread(target=lambda: found.append(cifar10.locate(spec).read_bytes()))
            for _ in range(3)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert found == [content] * 3 and len(asked) == 1 and not any(seen)
    assert cifar10.CIFAR_NAME not in asked


def test_where_there_are_no_raw_data_none_are_said_to_be_verified(tmp_path):
    data, record = prepared(DatasetSpec("procedural", 8, 3, num_images=300), None, tmp_path)
    assert record.facts == {"images": 300, "classes": 0, "raw": "none"} and not record.outside
    np.testing.assert_array_equal(data.images[299], procedural.make(np.array([299]), 8, 3, 0)[0])
