"""A folder whose Snakemake was killed is free again; one in which another works is not."""

import os
import subprocess
import sys
from pathlib import Path

from ambient.cluster import abandoned

BEGIN = """
import sys
from pathlib import Path
from ambient.cluster import abandoned
print(abandoned.take_over(Path(sys.argv[1])), flush=True)
input()
"""


def begin(folder):
    """A run of its own process, and how many dead runs it found."""
    run = subprocess.Popen([sys.executable, "-c", BEGIN, folder], text=True, stdin=subprocess.PIPE,
                           stdout=subprocess.PIPE,
                           env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])})
    return run, int(run.stdout.readline())


def test_lists_of_files_go_with_the_last_run_that_is_killed(tmp_path):
    listed = tmp_path / abandoned.LOCKS / "0.output.lock"
    listed.parent.mkdir()
    listed.write_text("results/demo/table2a.csv\n")  # by whom, nobody knows
    first, found = begin(tmp_path)
    assert found == 0 and listed.exists()
    second, found = begin(tmp_path)
    assert found == 0 and listed.exists()
    first.kill()
    first.communicate()
    third, found = begin(tmp_path)
    assert found == 0 and listed.exists()  # the second works still
    for run in (second, third):
        run.kill()
        run.communicate()
    fourth, found = begin(tmp_path)
    assert found == 2 and not listed.exists() and listed.parent.is_dir()
    fourth.communicate("\n")
    assert not list((tmp_path / abandoned.RUNS).iterdir())  # one that ends leaves nothing
