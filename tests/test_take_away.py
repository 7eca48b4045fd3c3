"""The commands that take results elsewhere: what they share."""

import re
import subprocess
import sys

import pytest

from ambient import __main__ as front_door
from ambient.commands import card, job
from ambient.commands import scale as scales
from ambient.jobs import stage
from ambient.settings import Experiments
from ambient.settings.graph import Graph

COMMANDS = {"sample": ["away"], "annotate": ["away", "--images", "x"], "export": ["away", "--out", "x"],
            "score": ["--scale", "away", "--samples", "x", "--protocol", "table2a"]}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_a_sentence_for_every_option(command, capsys):
    with pytest.raises(SystemExit) as left:
        front_door.main([command, "--help"])
    text = capsys.readouterr().out
    options = re.findall(r"^  (--[\w-]+)(?: [A-Z\[][\w./\]]*)?(?:\n +| {2,})(\w.*)", text, re.MULTILINE)
    asked = set(re.findall(r"^  (--[\w-]+)", text, re.MULTILINE))
    assert left.value.code == 0 and {name for name, _ in options} == asked >= {"--run"} - {
        "--run" if command == "score" else ""}


@pytest.mark.parametrize("command", COMMANDS)
def test_what_can_not_be_done_is_one_line_and_status_two(command, copy, capsys):
    line = [word.replace("away", "awya") for word in COMMANDS[command]]
    assert front_door.main([command, *line]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"ambient {command}: error: ") and said.count("\n") == 1
    assert "no such scale: 'awya' (did you mean 'away'?)" in said


def test_a_refused_run_is_known_before_torch_is_loaded(away):
    code = ("import sys; from ambient.__main__ import main; status = main(sys.argv[1:]); "
            "assert status == 2 and 'torch' not in sys.modules, sorted(sys.modules)")
    for command in ("sample", "export"):
        line = [command, *COMMANDS[command], "--run", "nothing"]
        done = subprocess.run([sys.executable, "-c", code, *line], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_a_job_is_run_once(copy, monkeypatch):
    graph = Graph(Experiments("config", "away"))
    made = graph.made("results/away/data/digits.safetensors")
    monkeypatch.setattr(stage, "begin", None)
    job.run(graph, made)
    (copy / "results/away/data/digits.safetensors").write_bytes(b"damaged")
    with pytest.raises(TypeError):  # it begins
        job.run(graph, made)


def test_the_card_describes_data_of_every_kind(copy):
    """Images that the workflow makes have neither raw data nor classes."""
    overlay = copy / "config/scales/away.yaml"
    overlay.write_text(overlay.read_text().replace(
        "datasets: {", "datasets: {made: {source: procedural, resolution: 8, channels: 1, num_images: 9, "
                       "label: made images}, "))
    graph = Graph(scales.experiments_of("away"))
    job.run(graph, graph.made("results/away/data/made.safetensors"))
    run = scales.Chosen(graph.experiments, "only-clean", 0)
    assert card.images_of(run, "made") == (
        "made images: 9 images of 1 x 8 x 8 pixels, no labels. Raw data: none, they are made.")
