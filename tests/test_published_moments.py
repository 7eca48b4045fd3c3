"""Moments that others published, in the place of measured ones."""

import dataclasses
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny import kept

from ambient import settings, specs
from ambient.audit.chain import Audit
from ambient.cluster import doctor
from ambient.data.datasets import Dataset, write
from ambient.evaluation.frechet import moments
from ambient.evaluation.published_moments import read
from ambient.jobs.stage import Record
from ambient.specs.strict import SpecError, plain
from ambient.stages import reference
from ambient.storage.files import read_arrays, sha256
from tests.test_provenance import made as made_by_a_job

ROOT = Path(__file__).parents[1]
FEATURES = np.random.default_rng(0).normal(size=(40, 64))
BEST = {"scorer": "s", "share": 0.1, "within": "all"}
TOLD = specs.PublishedSpec("d", "fd_dinov2")
PUBLISHED = specs.DetectorSpec("dinov2", features=64, published=TOLD)


def content(**changes):
    """As EDM2 publishes them, for two detectors."""
    of = moments(FEATURES)
    other = {"mu": np.zeros(3), "sigma": np.eye(3)}
    return {"fid": other, "fd_dinov2": {"mu": of.mean, "sigma": of.covariance}, "num_images": 40} | changes


def saved(path, value, protocol=4):
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


@pytest.fixture
def data(tmp_path):
    images = np.zeros((40, 3, 8, 8), np.uint8)
    write(tmp_path / "d.safetensors", Dataset(images, np.zeros(40, int), np.arange(40)))
    return tmp_path / "d.safetensors"


def made(tmp_path, data, path, spec=PUBLISHED):
    record = Record()
    reference.main(spec, record, data=data, detector=tmp_path / "none", published=path,
                   state=kept(tmp_path / "state"), out=tmp_path / "r.safetensors")
    return read_arrays(tmp_path / "r.safetensors"), record


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("beside", [True, False])
def test_published_moments_become_a_reference_with_their_digest(tmp_path, data, protocol, beside):
    value = content()
    if not beside:
        value["fd_dinov2"]["num_images"] = np.int64(value.pop("num_images"))
    path = saved(tmp_path / "img512.pkl", value, protocol)
    found, record = made(tmp_path, data, path)
    of = moments(FEATURES)
    np.testing.assert_array_equal(found["mean"], of.mean)
    np.testing.assert_array_equal(found["covariance"], of.covariance)
    assert found["count"].tolist() == [40] and record.facts["images"] == 40
    assert [(one["name"], one["file"], one["sha256"]) for one in record.outside] == [
        ("published", "img512.pkl", sha256(path))]


def test_a_pinned_file_is_held_to_its_digest(tmp_path, data):
    path = saved(tmp_path / "img512.pkl", content())
    for digest, wrong in ((sha256(path), False), ("0" * 64, True)):
        spec = dataclasses.replace(PUBLISHED, published=dataclasses.replace(TOLD, sha256=digest))
        if wrong:
            with pytest.raises(ValueError, match="the configuration's published.sha256 is 0000"):
                made(tmp_path, data, path, spec)
        else:
            made(tmp_path, data, path, spec)


@pytest.mark.parametrize(("value", "said"), [
    (content(num_images=41), "of 41 images, the dataset has 40"),
    (content(num_images="many"), "num_images is 'many', allowed"),
    ({"fid": {}}, "has no entry 'fd_dinov2' of moments; it has fid"),
    ([1], "has no entry 'fd_dinov2' of moments; it has list"),
    (content(fd_dinov2={"mu": np.zeros(3), "sigma": np.eye(3)}), r"mu has the shape \(3,\), .* 64 features"),
    (content(fd_dinov2={"mu": np.zeros(64)}), "sigma.? is not in it"),
    (content(fd_dinov2={"mu": np.zeros(64), "sigma": np.full((64, 64), np.nan)}), "no finite numbers"),
    (content(fd_dinov2={"mu": np.zeros(64), "sigma": [print]}), "img512.pkl: ")])
def test_other_files_are_refused_by_name(tmp_path, data, value, said):
    with pytest.raises(ValueError, match=said) as caught:
        made(tmp_path, data, saved(tmp_path / "img512.pkl", value))
    assert str(caught.value).startswith(str(tmp_path / "img512.pkl"))


def test_a_missing_file_says_what_to_do(tmp_path, data):
    with pytest.raises(ValueError, match="published.path: got None, allowed: a file of published moments"):
        made(tmp_path, data, None)
    with pytest.raises(ValueError, match="img512.pkl: not a readable pickle"):
        (tmp_path / "img512.pkl").write_bytes(pickle.dumps(content())[:-30])
        read(tmp_path / "img512.pkl", "fid", 3)


def test_what_learns_here_has_no_published_moments():
    told = {"published": {"dataset": "d", "entry": "fid"}, "features": 64}
    learnt = {"channels": 8, "nimg": 64, "batch": 64, "lr": 1e-3}
    for more in ({"kind": "selfnet"} | learnt, {"kind": "dinov2", "best": BEST}):
        with pytest.raises(SpecError, match="published: got"):
            specs.strict.build(specs.DetectorSpec, told | more, "a")


def test_a_study_takes_published_moments_of_its_own_dataset(tmp_path):
    others = shutil.ignore_patterns("local.yaml", "site.yaml")
    shutil.copytree(ROOT / "config", tmp_path / "config", ignore=others)
    local = tmp_path / "config/local.yaml"
    local.write_text("studies: {controlled: {detector: dinov2-published, sampling: {num_samples: 1250}}}\n")
    with pytest.raises(SpecError, match="published.dataset: got 'imagenet-512', allowed: digits"):
        settings.Experiments(tmp_path / "config", "demo")
    local.write_text("studies: {controlled: {detector: dinov2-published, sampling: {num_samples: 1250}}}\n"
                     "detectors:\n  dinov2-published:\n"
                     "    published: {dataset: digits, path: /data/img512.pkl}\n")
    found = settings.Experiments(tmp_path / "config", "demo")
    told = found.evaluation("only-clean")
    assert told.metric == "fd-dinov2-published"
    assert told.detector == found.portable_detector("dinov2-published")
    assert plain(told)["detector"]["published"] == {
        "dataset": "digits", "entry": "fd_dinov2", "path": None, "sha256": None}
    assert found.published_moments("dinov2-published") == "/data/img512.pkl"
    assert found.published_moments("dinov2") is None
    assert "published" not in plain(found.portable_detector("dinov2"))
    said = [line for kind, line in doctor.raw_data(found) if kind == doctor.MISSING and "published" in line]
    assert said == ["detector dinov2-published: no such file /data/img512.pkl "
                    "(detectors.dinov2-published.published.path)"]


def test_the_audit_holds_a_published_file_to_its_own_pin(tmp_path):
    """The pin of the detector's weights is another one."""
    file = {"name": "published", "file": "img512.pkl", "origin": "test", "size": 3, "sha256": "e" * 64}
    data = made_by_a_job(tmp_path / "a.bin", "ambient.prepare", spec={"sha256": "e" * 64}, external=[file])
    for pinned, closed in (("e" * 64, True), (None, False), ("f" * 64, False)):
        spec = {"sha256": "e" * 64, "published": {"sha256": pinned}}
        path = made_by_a_job(tmp_path / "b.bin", "ambient.reference", [data], spec, external=[file])
        words = {problem.word for problem in Audit(path).artefact(path).problems}
        assert ("unpinned" not in words) == closed
