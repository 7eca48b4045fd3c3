"""Networks as they are loaded: the weights of a file lie in memory beside those of the network."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ambient.cluster.cost import Costs
from ambient.cluster.work import BASE_MB, loading_mb
from ambient.evaluation.detectors import contrastive
from ambient.settings import Experiments
from ambient.specs import DetectorSpec, TextEncoderSpec
from ambient.specs.strict import build, plain
from ambient.training import text_encoders, text_encoding
from ambient.training.weights import save_weights

ROOT = Path(__file__).parents[1]
IMAGE = {"side": 56, "patch": 14, "width": 128, "heads": 4, "layers": 2}
SMALL = build(TextEncoderSpec, {"kind": "openclip", "width": 128, "heads": 4, "layers": 2, "features": 64,
                                "image": IMAGE}, "t")
# Printed: the most memory, MB, that a text encoder of a file takes while it is loaded.
LOAD = """
import sys, torch
from pathlib import Path
from ambient.provenance.manifest import peak_memory
from ambient.training import text_encoders
from ambient.training.text_encoders import openclip
from ambient.training.text_encoding import TextEncoder
before = peak_memory()
TextEncoder(Path(sys.argv[1]), torch.device("cpu"))
print((peak_memory() - before) / 1e6)
"""


def written(spec, path):
    """The file of a text encoder with weights of its own."""
    coder = text_encoders.KINDS["openclip"].build(spec, {"merges": 3})
    save_weights(path, coder.state_dict(), {"spec": plain(spec), "coder": {"merges": 3}})
    return path


@pytest.mark.parametrize("changes", [{}, {"image": None}, {"features": 512, "layers": 5}])
def test_a_text_encoder_has_as_many_weights_as_its_settings_say(changes):
    spec = dataclasses.replace(SMALL, **changes)
    with torch.device("meta"):
        made = text_encoders.KINDS["openclip"].build(spec, {"merges": 3})
    assert spec.parameters == pytest.approx(sum(one.numel() for one in made.parameters()), rel=0.01)


def test_twice_the_weights_are_in_memory_as_they_are_loaded(tmp_path):
    wide = dataclasses.replace(SMALL, width=1024, image=None)
    asked = loading_mb(wide.parameters)
    took = float(subprocess.run([sys.executable, "-c", LOAD, written(wide, tmp_path / "x")], check=True,
                                text=True, stdout=subprocess.PIPE).stdout)
    assert 0.8 * asked < took < asked + 500, "and libraries"


def test_jobs_that_load_a_large_network_ask_for_its_memory():
    """The paper's CLIP has 986 million weights, and EDM2-XXL 1.5 thousand millions."""
    found = Experiments(ROOT / "config", "paper")
    costs, model = Costs(found), found.text_encoder("dfn5b")
    assert model.parameters == pytest.approx(986e6, rel=0.01)
    least = BASE_MB + loading_mb(model.parameters)
    assert least > 11_800
    for work in (costs.text_encoder("dfn5b"), costs.texts("coco", "dfn5b"),
                 costs.sample_scores("text-all", "clip-score")):
        assert least <= work.memory_mb < least + 2000
    network = costs.train("edm2-xxl").weights_mb
    assert costs.sample("edm2-xxl").memory_mb > BASE_MB + 2 * network


def test_a_detector_of_a_model_is_its_file_and_builds_no_network(tmp_path, monkeypatch):
    path = written(SMALL, tmp_path / "model")
    monkeypatch.setattr(text_encoding, "TextEncoder", None)
    spec = DetectorSpec("contrastive", model="m", features=64)
    contrastive.make(spec, None, data=None, weights=None, state=None, out=tmp_path / "out", model=path)
    assert (tmp_path / "out").read_bytes() == path.read_bytes()
    with pytest.raises(ValueError, match="model: has 64 features of an image, the configuration's"):
        contrastive.make(dataclasses.replace(spec, features=32), None, data=None, weights=None, state=None,
                         out=tmp_path / "out", model=path)
