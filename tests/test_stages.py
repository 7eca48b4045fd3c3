"""The table of stages: it says what the stages' code says, and refuses a wrong command line by itself."""

import ast
import subprocess
import sys
import time

import pytest

from ambient import __main__ as command
from ambient.jobs import stage
from ambient.provenance import source_code
from ambient.specs.stages import STAGES
from tests import commands
from tests.additions import ROOT


def main_of(name):
    """The syntax tree of a stage's `main`."""
    tree = ast.parse(stage.source(STAGES[name]).read_text())
    return next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main")


def test_every_file_of_a_stage_has_a_row_and_every_row_a_file():
    files = [path for room in ("stages", "audit/stages") for path in (ROOT / "ambient" / room).glob("*.py")
             if path.stem != "__init__"]
    assert sorted(path.stem for path in files) == sorted(STAGES)
    assert {path.stem for path in files if "audit" in path.parts} == {"summary", "report"}


@pytest.mark.parametrize("name", STAGES)
def test_a_row_has_the_arguments_of_its_stage(name):
    row, arguments = STAGES[name], main_of(name).args
    assert [one.arg for one in arguments.args] == ["spec", "record"]
    assert ast.unparse(arguments.args[0].annotation) == row.spec.__name__
    named = [one.arg for one in arguments.kwonlyargs]
    flags = ["noted"] if source_code.states_levels(row.recorded) else []  # `--noted`
    assert sorted(named) == sorted([*row.reads, *row.options, *row.outputs, *flags])
    types = {one.arg: ast.unparse(one.annotation) for one in arguments.kwonlyargs}
    assert {role for role, kind in types.items() if "[Path]" in kind} == row.many
    assert {role for role, kind in types.items() if kind == "Path | None"} == row.optional


def test_what_the_table_says_of_stages():
    """The facts that other parts read from the table, in one place: a slip in a row is seen."""
    resumable = {name for name, row in STAGES.items() if row.resumable}
    assert resumable == {"prepare", "corrupt", "scores", "encoder", "encode", "classifier", "annotate",
                         "train", "sample", "sample_scores", "judge", "detector", "reference", "evaluate",
                         "outside", "text_encoder", "texts", "locality", "neighbours", "landmarks",
                         "noise_floor"}
    assert resumable - {name for name, row in STAGES.items() if row.shared} == {"prepare", "corrupt"}
    assert {name for name, row in STAGES.items() if row.prunes == "weights"} == {
        "classifier", "train", "reconstruct"}
    assert {name for name, row in STAGES.items() if row.prunes == "arrays"} == {
        "prepare", "scores", "corrupt", "encode", "texts", "sample", "evaluate"}
    assert [name for name, row in STAGES.items() if row.rooted] == ["tables"]
    assert [name for name, row in STAGES.items() if not row.reads] == ["prepare", "theory"]
    assert list(STAGES["figures"].outputs) == [
        "out", "out_pdf", "out_curves", "out_curves_pdf", "out_classifiers", "out_classifiers_pdf",
        "out_grid", "out_grid_pdf"]
    place = "runs/a/seed-0/metrics"
    assert STAGES["evaluate"].place("out", {"run": "a", "seed": 0}) == f"{place}.json"
    assert STAGES["evaluate"].place("out", {"run": "a", "seed": 0, "detector": "b"}) == f"{place}-b.json"
    place = "runs/a/seed-0/evaluate"
    assert STAGES["evaluate"].resumes_from({"run": "a", "seed": 0}) == place
    assert STAGES["evaluate"].resumes_from({"run": "a", "seed": 0, "detector": "b"}) == f"{place}-b"


REFUSED = """
import sys
from ambient.__main__ import main
for name in sys.argv[1:]:
    try:
        main(["run", name, "--spec", "{", "--data", "x", "--out", "x", "--state", "x"])
    except SystemExit as error:
        print(name, error.code)
assert not {"torch", "numpy", "pandas", "matplotlib", "snakemake", "yaml"} & set(sys.modules)
"""


def test_a_wrong_command_line_is_refused_before_anything_heavy_is_loaded():
    done = subprocess.run([sys.executable, "-c", REFUSED, *STAGES], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [line.split()[0] for line in done.stdout.splitlines() if not line.endswith(" 0")] == list(STAGES)


@pytest.mark.parametrize(("arguments", "said"), [
    (["trian"], "no such stage: 'trian' (did you mean 'train'?)"),
    (["--ranks", "2", "corrupt"], "got --ranks 2, allowed: 1, since corrupt runs on one"),
    (["--ranks", "2", "prepare"], "got --ranks 2, allowed: 1, since prepare runs on one"),
    (["--ranks", "3", "--nodes", "2", "train"], "--ranks 3 --nodes 2, allowed: ranks a multiple of nodes"),
    (["--shard-weights", "train"], "allowed: of these stages, on two ranks or more: train"),
    (["--ranks", "2", "--shard-weights", "sample"], "allowed: of these stages, on two ranks or more: train"),
    (["train", "--spec", "{}"], "required: --data, --annotations, --state, --out, --log")])
def test_run_says_what_is_wrong_with_its_command_line(arguments, said, capsys):
    with pytest.raises(SystemExit) as left:
        command.main(["run", *arguments])
    assert left.value.code == 2 and said in capsys.readouterr().err


def test_ranks_are_not_started_for_a_specification_that_is_refused(tmp_path):
    files = dict.fromkeys(("data", "annotations", "state", "out", "log"), tmp_path / "x")
    began = time.monotonic()
    done = subprocess.run(commands.stage("train", "{}", ranks=2, **files), capture_output=True, text=True)
    assert done.returncode == 1 and time.monotonic() - began < 5
    assert done.stderr.startswith("ambient.train: error: --spec") and done.stderr.count("\n") == 1


def test_run_lists_every_stage_with_what_it_does(capsys):
    with pytest.raises(SystemExit) as left:
        command.main(["run", "--help"])
    text = capsys.readouterr().out
    assert left.value.code == 0
    assert "  train         train a diffusion model on a mixture" in text
    assert all(f"\n  {name:13} " in text for name in STAGES)


def test_the_table_is_recorded_beside_the_code_and_is_none_of_it():
    """A new row makes nothing again; but what started the job is known to the audit."""
    for path in ("ambient/specs/stages.py", "ambient/jobs/run.py", "ambient/__main__.py"):
        assert path in source_code.bookkeeping("ambient.train")
        assert path not in source_code.closure("ambient.train")
    assert "ambient/stages/train.py" in source_code.closure("ambient.train")
    assert not any(name.startswith("ambient/stages/") and "train" not in name
                   for name in source_code.closure("ambient.train"))


@pytest.mark.parametrize("module", ["ambient.stages.train", "ambient.audit.stages.summary"])
def test_a_stage_started_as_a_module_says_how_it_is_run(module):
    done = subprocess.run([sys.executable, "-m", module, "--spec", "{}"], cwd=ROOT, text=True,
                          capture_output=True)
    assert done.returncode == 1
    assert done.stderr == (f"{module} is no program; run the stage by: "
                           f"python -m ambient run {module.rpartition('.')[2]} --help\n")
