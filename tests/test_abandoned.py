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
said = []
print(abandoned.take_over(Path(sys.argv[1]), said.append), *said, flush=True)
input()
"""

# A lease as the library writes it, of a run on another machine.
MARKER = f"filelock/2\npid=1\nhost=login1\nmode=lease\ntoken=a\nduration={abandoned.LEASE!r}\n"


def begin(folder):
    """A run of its own process, how many dead runs it found, and what it said."""
    run = subprocess.Popen([sys.executable, "-c", BEGIN, folder], text=True, stdin=subprocess.PIPE,
                           stdout=subprocess.PIPE,
                           env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])})
    found, _, said = run.stdout.readline().strip().partition(" ")
    return run, int(found), said


def test_lists_of_files_go_with_the_last_run_that_is_killed(tmp_path):
    listed = tmp_path / abandoned.LOCKS / "0.output.lock"
    listed.parent.mkdir()
    listed.write_text("results/demo/table2a.csv\n")  # by whom, nobody knows
    first, found, said = begin(tmp_path)
    assert found == 0 and listed.exists() and not said
    second, found, said = begin(tmp_path)
    assert found == 0 and listed.exists()
    assert said.startswith("Another run works in this folder (host ") and f"process {first.pid})" in said
    first.kill()
    first.communicate()
    third, found, _ = begin(tmp_path)
    assert found == 0 and listed.exists()  # the second works still
    for run in (second, third):
        run.kill()
        run.communicate()
    fourth, found, _ = begin(tmp_path)
    assert found == 2 and not listed.exists() and listed.parent.is_dir()
    fourth.communicate("\n")
    assert not list((tmp_path / abandoned.RUNS).iterdir())  # one that ends leaves nothing


def test_a_run_of_another_machine_that_gives_no_sign_of_life_is_dead(tmp_path):
    lease, listed = tmp_path / abandoned.RUNS / "0.lock", tmp_path / abandoned.LOCKS / "0.output.lock"
    for path, text in ((lease, MARKER), (listed, "results/demo/table2a.csv\n")):
        path.parent.mkdir()
        path.write_text(text)
    first, found, said = begin(tmp_path)
    assert found == 0 and listed.exists() and "(host login1, process 1)" in said
    first.communicate("\n")
    silent = lease.stat().st_mtime - abandoned.LEASE - 10
    os.utime(lease, (silent, silent))
    second, found, said = begin(tmp_path)
    assert found == 1 and not listed.exists() and not lease.exists() and not said
    second.communicate("\n")
