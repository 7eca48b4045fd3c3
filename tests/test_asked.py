"""What a job would be asked now: by the grammar of paths as by the workflow itself, and against manifests."""

import json
import re
import shlex
from pathlib import Path

import pytest

from ambient.settings import asked, graph
from ambient.specs.strict import plain
from tests.test_workflow import ROOT, snakemake

TARGETS = {"demo": "demo_all", "paper": "results/table2a.pdf"}


@pytest.mark.parametrize("scale", TARGETS)
def test_paths_say_what_the_workflow_says(scale):
    text = snakemake(ROOT, "-n", "-F", "-p", "--quiet", "host", "-d", ROOT, TARGETS[scale]).stdout
    told = {}
    for line in re.findall(r"python -m ambient run \w+ --spec .*", text):
        words = shlex.split(line.partition(" 2>&1")[0])
        outputs = [words[i + 1] for i, word in enumerate(words) if word in (
            "--out", "--log", "--summary", "--calibration") or re.fullmatch("--(out-.*|.*-out)", word)]
        told |= {path: (words[4], json.loads(words[6])) for path in outputs}
    assert len(told) > 40
    found = asked.graph(Path(ROOT, "config"), scale)
    for path, (stage, spec) in told.items():
        assert graph.scale_of(Path("/elsewhere", path)) == (scale, path)
        job = found.maker(path)
        assert job.kind == stage and plain(found.asks(job)) == spec, path


def test_what_no_stage_makes_is_nobodys():
    found = asked.graph(Path(ROOT, "config"), "demo")
    for name in ("page.html", "data/digits.txt", "runs/x/denoiser.safetensors", "../table2a.csv"):
        assert found.maker(f"results/demo/{name}") is None
    assert graph.scale_of(Path("elsewhere/table2a.csv")) is None
    assert asked.of_file(Path(ROOT, "results/demo/table2a-audit.html")) is None


def test_a_manifest_of_another_configuration_is_told_by_key_and_values():
    wanted = asked.graph(Path(ROOT, "config"), "demo").experiments.mixture("controlled", "blur-0.6", 0.2)
    for sigma, differing in ((0.6, []), (0.9, [("spec.params.sigma_px", 0.9, 0.6)])):
        found = {"stage": "ambient.corrupt", "spec": plain(wanted) | {"params": {"sigma_px": sigma}},
                 "code": {"files": {"ambient/stages/corrupt.py": "0"}}}
        made = asked.differences(found, asked.Told("corrupt", wanted))
        assert [(one.key, one.recorded, one.wanted) for one in made] == differing
    assert str(made[0]) == "spec.params.sigma_px: made with 0.9, the configuration asks for 0.6"
    found |= {"spec": plain(wanted)}
    [code] = asked.differences(found, asked.Told("corrupt", wanted, {"ambient/stages/corrupt.py": "1"}))
    assert code.key == "code ambient/stages/corrupt.py"
    assert asked.differences(found, asked.Told("train", wanted))[0].key == "stage"


def test_a_row_that_differs_is_told_by_its_place_and_not_with_its_whole_table():
    found = asked.graph(Path(ROOT, "config"), "demo")
    wanted = found.asks(found.maker("results/demo/table2a.csv"))
    old = plain(wanted)
    old["rows"] = [old["rows"][1], *old["rows"][1:]]
    first, *_ = asked.differences({"stage": "ambient.tables", "spec": old}, asked.Told("tables", wanted))
    assert str(first) == ("spec.rows[0].run: made with 'all-data-blur-0.6', the configuration asks for "
                          "'only-clean'")


def test_a_setting_younger_than_a_manifest_had_its_default():
    wanted = asked.graph(Path(ROOT, "config"), "demo").experiments.annotation("controlled", "per-sample")
    old = {key: value for key, value in plain(wanted).items() if key != "protocol"}
    assert asked.differences({"stage": "ambient.annotate", "spec": old}, asked.Told("annotate", wanted)) == []
