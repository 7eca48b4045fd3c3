"""Kinds of a thing: a file each, told by its name; settings that are checked without torch."""

import dataclasses
import shutil
import subprocess
import sys

import pytest
from tiny import CLASSIFIER, SAMPLING, TRAINING

from ambient import specs
from ambient.provenance import source_code
from ambient.settings.layers import overlay
from ambient.settings.resolve import evaluating
from ambient.specs.strict import SpecError, build, from_json, plain, to_json
from ambient.training import loading
from tests.additions import ADDED

FOLDERS = {"detectors": specs.DetectorSpec.KINDS, "sources": specs.DatasetSpec.KINDS,
           "methods": specs.AnnotationSpec.KINDS, "networks": specs.NetworkSpec.KINDS,
           "figures": specs.FigureSpec.KINDS, "scorers": specs.ScorerSpec.KINDS,
           "operations": specs.OperationSpec.KINDS}
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
    ({"kind": "inceptoin"},
     f"detectors.a.kind: got 'inceptoin', allowed: {', '.join(sorted(specs.DetectorSpec.KINDS))}$"),
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
    assert len(kinds) > (folder == "detectors")
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


def test_a_specification_that_names_no_network_reaches_the_usual_one(tmp_path, monkeypatch):
    package = tmp_path / "ambient"
    shutil.copytree(source_code.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ADDED / "plain.py", package / "training/networks")
    monkeypatch.setattr(source_code, "ROOT", tmp_path)

    def networks(stage, *words):
        reached = source_code.Reach(f"ambient.stages.{stage}", frozenset({"per_sample", *words})).roots
        return {name.rpartition(".")[2] for name in reached if name.startswith("ambient.training.networks.")}

    for stage in ("train", "classifier", "sample", "locality", "annotate"):
        assert networks(stage, "cosine") == networks(stage, "unet") == {"unet"}
        assert networks(stage, "plain") == {"plain"}
    assert networks("evaluate", "inception") == networks("detector", "classifier") == set()


def test_a_network_laid_over_one_of_another_kind_takes_over_none_of_its_settings():
    unet = {"network": {"model_channels": 8, "dropout": 0.1}, "seed": 0}
    assert overlay(unet, {"network": {"kind": "plain", "width": 4}}) == {
        "network": {"kind": "plain", "width": 4}, "seed": 0}
    plain_4 = {"kind": "plain", "width": 4}
    assert overlay(plain_4, {"kind": "plain", "depth": 2}) == plain_4 | {"depth": 2}
    assert overlay(plain_4, {"width": 8}) == {"kind": "plain", "width": 8}
    assert overlay({}, {"kind": "plain"}) == {"kind": "plain"}


def test_a_network_says_its_kind_unless_it_is_the_usual_one():
    network = specs.NetworkSpec(8, (1, 2), 1, (), 0.1)
    assert type(network) is specs.NetworkSpec.KINDS["unet"].Spec and network.kind == "unet"
    assert "kind" not in plain(network) and plain(network)["conditional"] is False
    assert build(specs.NetworkSpec, plain(network) | {"kind": "unet"}, "network") == network
    with pytest.raises(SpecError, match="network.kind: got 'unett', allowed: dit, mp_unet, .*unet"):
        build(specs.NetworkSpec, {"kind": "unett"}, "network")


def test_a_job_is_told_the_network_that_it_evaluates(monkeypatch):
    assert evaluating(SAMPLING, "sampling", ["plain"]).network == "plain"
    assert evaluating(SAMPLING, "sampling", []) == evaluating(SAMPLING, "sampling", ["unet"]) == SAMPLING
    with pytest.raises(SpecError, match=r"a.classifiers: got \['plain', 'unet'\], allowed: .* one kind"):
        evaluating(SAMPLING, "a.classifiers", ["unet", "plain"])
    with pytest.raises(SpecError, match="sampling.network: got 'dit', allowed: plain, .* may be left out"):
        evaluating(dataclasses.replace(SAMPLING, network="dit"), "sampling", ["plain"])
    about = {"spec": plain(TRAINING)}
    loading.require_network("d.safetensors", about, "unet")
    with pytest.raises(ValueError, match="d.safetensors: its network is of kind unet, .* network is plain"):
        loading.require_network("d.safetensors", about, "plain")
    monkeypatch.setattr(specs.NetworkSpec.KINDS["unet"].Spec, "ENCODES", False)
    with pytest.raises(SpecError, match="network.kind: got 'unet', allowed: one with an encoder half"):
        build(specs.ClassifierSpec, plain(CLASSIFIER), "classifier")
