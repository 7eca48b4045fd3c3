"""`ambient generate`: which run it takes, and what it says of those that it can't take."""

from pathlib import Path

import pytest

from ambient import __main__ as front_door
from ambient.commands import generate, scale
from ambient.settings import home

TOLD = ["text-all", "text-ambient", "text-tuned", "text-all-1", "text-all-2", "text-all-3", "text-ambient-1",
        "text-ambient-2", "text-ambient-3", "text-tuned-3", "text-clean"]  # one of each training of the demo


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the shipped settings, and no results."""
    (tmp_path / "config").symlink_to(home().resolve())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys, *line):
    """The one line in which the command refuses a call."""
    assert front_door.main(["generate", *line]) == 2
    error = capsys.readouterr().err
    assert error.startswith("ambient generate: error: ") and error.count("\n") == 1
    return error.removeprefix("ambient generate: error: ").strip()


def test_without_a_run_those_that_are_told_captions_are_listed(place, capsys):
    known = f"({', '.join(TOLD)})"
    assert said(capsys, "demo", "a cat") == (
        f"--run: not given, and the scale demo has 11 runs that are told captions: name one {known}")
    allowed = f"allowed: a run that is told captions {known}"
    assert said(capsys, "demo", "a cat", "--run", "only-clean") == f"--run: got 'only-clean', {allowed}"
    for run in ("text-tuned", "vendi-tuned"):  # the second one is another row of the same training
        missing = "results/demo/runs/text-tuned/seed-0/denoiser.safetensors: no such file; make it with: "
        assert said(capsys, "demo", "a cat", "--run", run).startswith(missing)


def test_a_file_of_captions_that_is_none_is_named_by_its_option(place, capsys):
    for path in ("nowhere.txt", "config"):
        assert said(capsys, "demo", "a cat", "--file", path) == f"--file: no such file: {path}"


def test_of_runs_with_weights_the_only_one_is_taken(place, capsys):
    demo = scale.experiments_of("demo")
    for run in ("text-ambient", "text-clean"):
        weights = Path(f"results/demo/runs/{run}/seed-0/denoiser.safetensors")
        weights.parent.mkdir(parents=True)
        weights.write_bytes(b"")
        assert run in generate.told_runs(demo)
        if run == "text-ambient":
            assert generate.told_run(demo) == "text-ambient"
    with pytest.raises(ValueError, match="2 runs that are told captions: name one .text-ambient, text-clean"):
        generate.told_run(demo)
