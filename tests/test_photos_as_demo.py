"""A folder of one's own that holds the demo's images ends in what the demo ends in, to the last bit."""

import numpy as np
from raw_images import encoded, make_folder
from tiny import CLASSIFIER, NOISE, RECORD, SAMPLING, kept, run_training

from ambient.data import datasets
from ambient.jobs.stage import Record
from ambient.specs import AnnotationSpec, DatasetSpec, MixtureSpec, SelectSpec
from ambient.stages import annotate, classifier, prepare, sample
from ambient.stages.corrupt import mix
from ambient.storage.files import read_arrays

ANNOTATION = AnnotationSpec("per_sample", None, 0.05, 6, "geometric", NOISE, 0.05, 20.0, 2, 1, "last",
                            "float32", 0)


def drawn(mixture, folder):
    """What a mixture ends in: sigma_min of its images, and samples of a denoiser that learnt from them."""
    datasets.write(folder / "m.safetensors", mixture)
    classifier.main(CLASSIFIER, RECORD, data=folder / "m.safetensors", state=kept(folder / "classified"),
                    out=folder / "c.safetensors", calibration=folder / "c.json")
    annotate.main(ANNOTATION, RECORD, data=folder / "m.safetensors", classifier=folder / "c.safetensors",
                  state=kept(folder / "annotated"), out=folder / "a.safetensors", summary=folder / "a.json")
    denoiser = run_training(folder / "m.safetensors", folder / "a.safetensors", folder)
    sample.main(SAMPLING, RECORD, denoiser=denoiser, state=kept(folder / "drawn"),
                out=folder / "s.safetensors")
    return [read_arrays(folder / name) for name in ("a.safetensors", "s.safetensors")]


def test_digits_given_as_a_folder_end_in_the_sigma_min_and_samples_of_the_demo(tmp_path):
    """Images, ids and which are clean are equal, and so are the bytes of all that is made of them."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 1, 16, 16), np.uint8)
    data = datasets.Dataset(images, np.arange(40) % 10, np.arange(40))
    demo = mix(MixtureSpec(0.3, 0, "gaussian_blur", {"sigma_px": 0.6}), data)
    folder = make_folder(tmp_path / "in", {f"{i:04d}.png": encoded(image[0])
                                           for i, image in enumerate(demo.images)})
    rule = tmp_path / "good.txt"
    rule.write_text("".join(f"{i:04d}.png\n" for i in np.flatnonzero(demo.corrupted == 0)))
    parts = []
    for good in (True, False):
        spec = DatasetSpec("photos", 16, 1, crop="centre", select=SelectSpec(by="list", good=good))
        out = tmp_path / f"{good}.safetensors"
        prepare.main(spec, Record(), raw=folder, state=kept(tmp_path / "state"), out=out, rule=rule)
        parts.append(datasets.read(out))
    own = mix(MixtureSpec(1.0, 0, "add", {"dataset": "other", "same_source": True}), *parts)
    for name in ("images", "ids", "corrupted"):
        np.testing.assert_array_equal(getattr(own, name), getattr(demo, name))
    for name in ("demo", "own"):
        (tmp_path / name).mkdir()
    for theirs, ours in zip(drawn(demo, tmp_path / "demo"), drawn(own, tmp_path / "own"), strict=True):
        assert theirs.keys() == ours.keys()
        for name in theirs:
            np.testing.assert_array_equal(theirs[name], ours[name])
    assert len(np.unique(ours["160"])) > 10 and len(np.unique(theirs["80"])) > 10
