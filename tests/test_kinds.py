"""Kinds of a thing: a file each, told by its name; settings that are checked without torch."""

import dataclasses
import subprocess
import sys

import pytest

from ambient import specs
from ambient.provenance import source_code
from ambient.specs.strict import SpecError, build, from_json, plain, to_json

FOLDERS = {"detectors": specs.DetectorSpec.KINDS, "sources": specs.DatasetSpec.KINDS,
           "methods": specs.AnnotationSpec.KINDS}
NET = {"kind": "classifier", "features": 8, "channels": 8, "nimg": 64, "batch": 32, "lr": 0.001}


def test_a_specification_is_of_its_kind_however_it_is_made():
    made = build(specs.DetectorSpec, NET, "detectors.a")
    assert type(made) is specs.DetectorSpec.KINDS["classifier"].Spec
    for other in (specs.DetectorSpec(**NET), specs.DetectorSpec("classifier", None, None, 8, 8, 64, 32, 1e-3),
                  from_json(specs.DetectorSpec, to_json(made)), build(type(made), plain(made), "detectors.a"),
                  dataclasses.replace(made, seed=0)):
        assert type(other) is type(made) and other == made
    other = build(type(made), {"kind": "inception"}, "detectors.a")  # what a manifest says of another kind
    assert type(other) is specs.DetectorSpec.KINDS["inception"].Spec


@pytest.mark.parametrize(("values", "said"), [
    ({"kind": "inceptoin"}, r"detectors.a.kind: got 'inceptoin', allowed: classifier, inception$"),
    ({"kind": ["inception"]}, r"detectors.a.kind: got \['inception'\], allowed"),
    ({"kind": "__init__"}, "detectors.a.kind: got '__init__', allowed"),
    ({"kind": "../inception"}, "detectors.a.kind: got '../inception', allowed"),
    ({}, "detectors.a: missing key 'kind'"),
    (NET | {"channel": 3}, r"detectors.a: unknown key 'channel' \(did you mean 'channels'\?\)"),
    (NET | {"batch": 48}, "detectors.a.nimg: got 64, allowed: a multiple of batch = 48")])
def test_a_kind_that_there_is_not_is_refused_and_so_are_settings_of_another(values, said):
    with pytest.raises(SpecError, match=said):
        build(specs.DetectorSpec, values, "detectors.a")


@pytest.mark.parametrize("folder", FOLDERS)
def test_settings_of_every_kind_are_checked_without_torch(folder):
    kinds = FOLDERS[folder]
    assert len(kinds) > 1
    code = (f"import sys, importlib; [importlib.import_module(f'{kinds.package}.{{name}}').Spec"
            f" for name in {list(kinds)}]; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_job_reaches_the_file_of_its_own_kind_alone():
    def files(kind):
        return {name for name in source_code.closure("ambient.reference", frozenset({kind}))}

    folder = "ambient/evaluation/detectors"
    assert f"{folder}/inception.py" in files("inception") and f"{folder}/classifier.py" in files("classifier")
    assert not {f"{folder}/classifier.py", "ambient/evaluation/small_nets.py"} & files("inception")
    assert f"{folder}/inception.py" not in files("classifier")
    assert {f"{folder}/{kind}.py" for kind in ("inception", "classifier")} <= set(
        source_code.closure("ambient.reference"))
