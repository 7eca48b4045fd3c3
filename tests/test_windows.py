"""Windows of photographs, and an encoder that must keep what ranks them."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr

from ambient.data import windows
from ambient.data.measures import measure
from ambient.data.sources import windows as source
from ambient.settings import Experiments
from ambient.settings.graph import Graph
from ambient.specs import DatasetSpec, EncoderSpec
from ambient.specs.strict import SpecError, plain
from ambient.training import autoencoding

ROOT = Path(__file__).parents[1]
SPEC = DatasetSpec(source="windows", resolution=32, channels=3, stride=24)


def test_windows_are_cut_from_bands_and_those_kept_apart_share_no_pixel():
    seen, held = (source.draw(dataclasses.replace(SPEC, held=held)) for held in (False, True))
    place = np.array(list(windows.corners(32, 24, 8)))
    assert sorted([*seen.ids, *held.ids]) == list(range(len(place))) and set(seen.labels) == {0, 1, 2}
    china = np.asarray(Image.open(windows.PHOTOGRAPHS[0].path()))
    for data in (seen, held):
        for row in (0, len(data.ids) // 4):
            photograph, band, top, left = place[data.ids[row]]
            assert photograph == data.labels[row] == 0 and windows.is_held(band, 4) == (data is held)
            window = china[top:top + 32, left:left + 32].transpose(2, 0, 1)
            np.testing.assert_array_equal(data.images[row], window)
    for photograph in range(3):
        covered = []
        for data in (seen, held):
            rows = place[data.ids[data.labels == photograph]]
            covered.append({int(top) + k for top in rows[:, 2] for k in range(32)})
        assert not covered[0] & covered[1]


def test_windows_of_some_classes_or_few_are_nested():
    some = source.draw(dataclasses.replace(SPEC, classes=(1,), max_images=5))
    assert (some.labels == 1).all() and len(some.ids) == 5
    grey = source.draw(dataclasses.replace(SPEC, channels=1, max_images=3))
    assert grey.images.shape == (3, 1, 32, 32)


@pytest.mark.parametrize(("changes", "message"), [
    ({"num_images": 5}, "num_images: got 5, allowed: 564, which there are of 32 pixels, stride 24"),
    ({"resolution": 100}, "resolution: got 100, allowed: at most the height of a band"),
    ({"every": 1}, "every: got 1, allowed: 2 to bands = 8"),
    ({"classes": (3,)}, "classes: got .3,., allowed: below 3")])
def test_windows_that_there_are_not_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        source.draw(dataclasses.replace(SPEC, **changes))


def test_another_photograph_is_refused(monkeypatch):
    other = dataclasses.replace(windows.PHOTOGRAPHS[0], sha256="0" * 64)
    with pytest.raises(ValueError, match="china.jpg: sha256 is 8378025.*, allowed: 000"):
        other.path()
    with pytest.raises(ValueError, match="photograph, is not installed: pip install scikit-learn"):
        dataclasses.replace(other, place="none.jpg").path()


class Coder:
    """A coder of the images themselves, which decodes to what a function makes of them."""

    def __init__(self, changed):
        self.changed = changed

    def encode(self, images):
        return torch.from_numpy(images.astype(np.float32) / 127.5 - 1), None

    def decode(self, z):
        return self.changed(z)


@pytest.mark.filterwarnings("ignore:An input array is constant")
def test_an_encoder_that_loses_what_ranks_images_is_refused(capfd):
    data = source.draw(dataclasses.replace(SPEC, max_images=60))
    spec = EncoderSpec("autoencoder", keeps="sharpness")
    assert autoencoding.kept(spec, Coder(lambda z: z), data.images) == pytest.approx(1)
    assert "sharpness survives decoding, rank correlation 1.000 on 60 images" in capfd.readouterr().err

    def blurred(z):
        mean = torch.nn.functional.avg_pool2d(z, 8)
        return torch.nn.functional.interpolate(mean, scale_factor=8, mode="bilinear")

    score = measure("sharpness")
    z = Coder(None).encode(data.images)[0]
    after = np.rint((blurred(z).numpy() + 1) * 127.5).clip(0, 255).astype(np.uint8)
    wanted = spearmanr(*([score(image) for image in images] for images in (data.images, after))).statistic
    assert wanted < 0.8
    message = f"keeps: the sharpness of 60 .* rank correlation of {wanted:.3f}, allowed: at least 0.9 .*raise"
    with pytest.raises(ValueError, match=message):
        autoencoding.kept(spec, Coder(blurred), data.images)
    loose = dataclasses.replace(spec, keeps_at_least=-1.0)
    assert autoencoding.kept(loose, Coder(blurred), data.images) == pytest.approx(wanted)
    with pytest.raises(ValueError, match="rank correlation of nan"):  # all images are alike
        autoencoding.kept(loose, Coder(torch.zeros_like), data.images)


def test_what_an_encoder_keeps_is_a_measure_and_recorded_where_it_is_asked_for():
    assert "keeps" not in plain(EncoderSpec("autoencoder"))
    with pytest.raises(SpecError, match="keeps: got 'sharp', allowed: blockiness, contrast, .*, or null"):
        EncoderSpec("autoencoder", keeps="sharp")


def test_the_demo_of_windows_resolves_and_its_judge_learns_from_bands_kept_apart():
    found = Experiments(ROOT / "config", "windows")
    graph = Graph(found)
    jobs = graph.behind(["results/windows/table1.csv", "results/windows/table1.png"])
    datasets = {job.names["dataset"] for job in jobs if job.kind == "prepare"}
    assert datasets == {"windows", "windows-held"}
    judge, = (job for job in jobs if job.kind == "detector")
    assert graph.reads(judge)["data"] == ["results/windows/data/windows-held.safetensors"]
    coder = found.encoder("window-coder")
    assert (coder.keeps, coder.keeps_at_least) == ("detail", 0.9)
    for name, held in (("windows", False), ("windows-held", True)):
        spec = found.dataset(name)
        place = np.array(list(windows.corners(spec.resolution, spec.stride, spec.bands)))
        assert spec.num_images == (windows.is_held(place[:, 1], spec.every) == held).sum()
    crops = found.annotation("edm2-xs", "quality-crops")
    assert (crops.method, crops.scorer, crops.crop_map) == ("by_quality", "detail", "measured")


def test_photographs_of_the_scale_small_are_judged_by_what_learns_from_others():
    """Its Table 1 takes images without classes, and measures crop(sigma) on its own training on all data."""
    found = Experiments(ROOT / "config", "small")
    graph = Graph(found)
    jobs = graph.behind(["results/small/table1.csv", "results/small/figure5.png"])
    assert {job.names["dataset"] for job in jobs if job.kind == "prepare"} == {
        "photographs", "photographs-held"}
    judge, = (job for job in jobs if job.kind == "detector")
    assert graph.reads(judge)["data"] == ["results/small/data/photographs-held.safetensors"]
    seen, held = (found.dataset(name).part for name in ("photographs", "photographs-held"))
    assert seen[1] == held[0] and not found.detector("photojudge").NEEDS_CLASSES
    assert not any(found.training(row.run, 0).network.conditional for row in found.tables["table1"].rows)
    place, = (job for job in jobs if job.kind == "locality")
    assert graph.reads(place)["denoiser"] == ["results/small/runs/edm2-xs/seed-0/denoiser.safetensors"]
