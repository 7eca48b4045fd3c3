"""CIFAR-10 from its archive or folder of batches: order, checksum, hostile pickles, damage."""

import hashlib
import io
import os
import pickle
import re
import tarfile

import numpy as np
import pytest

from ambient.data.pickles import PlainUnpickler
from ambient.data.raw import Raw
from ambient.data.sources import cifar10
from ambient.specs import DatasetSpec
from tests.raw_images import make_folder, prepared, refused


def batch_bytes(number, count=4):
    """A batch as Python 2 with an old numpy wrote it: protocol 2, `numpy.core`, bytes for keys."""
    data = np.random.default_rng(number).integers(0, 256, (count, 3072), np.uint8)
    content = pickle.dumps({b"data": data, b"labels": [number] * count,
                            b"filenames": [b"a.png"] * count}, protocol=2)
    return content.replace(b"numpy._core.", b"numpy.core."), data


@pytest.fixture()
def cifar(tmp_path):
    return make_folder(tmp_path / "raw", {f"cifar-10-batches-py/data_batch_{i}": batch_bytes(i)[0]
                                          for i in range(1, 6)})


def archive_of(folder, path):
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder / "cifar-10-batches-py", "cifar-10-batches-py")
    return path


def test_cifar_batches_in_order_from_archive_and_folder(cifar, tmp_path):
    archive = archive_of(cifar, tmp_path / "cifar-10-python.tar.gz")
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    expected = np.concatenate([batch_bytes(i)[1] for i in range(1, 6)]).reshape(-1, 3, 32, 32)
    for path, checksum in ((archive, md5), (cifar, None), (cifar / "cifar-10-batches-py", None)):
        images, labels = map(np.concatenate, zip(*cifar10.batches(Raw(path), checksum), strict=True))
        np.testing.assert_array_equal(images, expected)
        np.testing.assert_array_equal(labels, np.repeat(np.arange(1, 6), 4))
    data, record = prepared(DatasetSpec("cifar10", 32, 3, num_images=20), cifar, tmp_path)
    np.testing.assert_array_equal(data.ids, np.arange(20))
    assert not record.facts["raw_checksum_verified"]  # the published checksum is the archive's


def test_cifar_archive_with_another_checksum(cifar, tmp_path):
    archive = archive_of(cifar, tmp_path / "cifar-10-python.tar.gz")
    refused(DatasetSpec("cifar10", 32, 3), archive, tmp_path, str(archive), cifar10.CIFAR_MD5)


class Malicious:
    """Unpickled by the ordinary reader, this makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_calls_something_is_refused_and_calls_nothing(protocol, cifar, tmp_path):
    content = pickle.dumps({b"data": Malicious(tmp_path / "hit")}, protocol=protocol)
    (cifar / "cifar-10-batches-py/data_batch_2").write_bytes(content)
    refused(DatasetSpec("cifar10", 32, 3), cifar, tmp_path, "data_batch_2", "posix.mkdir")
    assert not (tmp_path / "hit").exists()


@pytest.mark.parametrize("name", ["builtins.eval", "builtins.getattr", "numpy.load", "os.system",
                                  "numpy.core.multiarray.fromfile", "pickle.loads"])
def test_no_other_name_is_looked_up(name):
    module, _, function = name.rpartition(".")
    with pytest.raises(ValueError, match=re.escape(name)):
        PlainUnpickler(io.BytesIO(b"")).find_class(module, function)


@pytest.mark.parametrize("content", [b"", b"garbage", pickle.dumps([1]), pickle.dumps({b"data": 3}),
                                     batch_bytes(1)[0][:-100],
                                     pickle.dumps({b"data": np.zeros((2, 3072), np.uint8),
                                                   b"labels": [1]})])
def test_a_damaged_batch_is_named(content, cifar, tmp_path):
    (cifar / "cifar-10-batches-py/data_batch_4").write_bytes(content)
    refused(DatasetSpec("cifar10", 32, 3), cifar, tmp_path, "data_batch_4", "not a CIFAR-10 batch")


def test_a_missing_batch_is_named(cifar, tmp_path):
    (cifar / "cifar-10-batches-py/data_batch_5").unlink()
    refused(DatasetSpec("cifar10", 32, 3), cifar, tmp_path, "data_batch_5")


def test_without_network_the_message_says_what_to_put_where(tmp_path, monkeypatch):
    import torchvision.datasets.utils

    def offline(url, root, filename, md5):
        assert root == str(tmp_path / "store") and filename.startswith(".cifar-10-python.tar.gz")
        assert md5 == cifar10.CIFAR_MD5
        raise OSError("no route to host")
    monkeypatch.setenv("AMBIENT_DATA", str(tmp_path / "store"))
    monkeypatch.setattr(torchvision.datasets.utils, "download_url", offline)
    refused(DatasetSpec("cifar10", 32, 3), None, tmp_path, "no route to host",
            "cifar-10-python.tar.gz", "datasets.cifar10.path", "config/local.yaml")


def test_an_empty_name_of_the_folder_means_the_usual_one(tmp_path, monkeypatch):
    import torchvision.datasets.utils

    folders = []
    monkeypatch.setattr(torchvision.datasets.utils, "download_url",
                        lambda url, root, filename, md5: folders.append(root))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AMBIENT_DATA", "")
    assert cifar10.locate(DatasetSpec("cifar10", 32, 3)).parent.name == "data" and folders == ["data"]
