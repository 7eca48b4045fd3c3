# What every rule reads; no rules. Every specification of the scales that are asked for is checked before there are jobs.
# Which files a job reads and what it is told is worked out by the graph of jobs (`ambient/settings/graph.py`), what it
# asks of a machine by `ambient/cluster/requests.py`.

import gc
import os
import sys

# The package lies beside the Snakefile, wherever the workflow runs (`--directory`): for this process and its jobs.
sys.path.insert(0, workflow.basedir)
os.environ.update(PYTHONPATH=os.pathsep.join([workflow.basedir, *filter(None, [os.getenv("PYTHONPATH")])]))

# Memory of jobs in pages of 2 MB, where the system has them for who asks: glibc asks for all that it hands out.
os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")

from ambient.cluster import adopt
from ambient.cluster.rules import PLACES, Rules, print_efficiency

# Thousands of jobs are objects that stay. To look through them for garbage as often as Python does took a fifth of the
# time until they are known.
gc.set_threshold(100_000, 50, 50)

RULES = Rules(workflow, config)
THREADS = config["threads"]
reads, writes, told, resources = RULES.reads, RULES.writes, RULES.told, RULES.resources
look_only_when_a_job_ends, say_how_far_it_is = (
    RULES.look_only_when_a_job_ends,
    RULES.say_how_far_it_is,
)
adopt.install(workflow, RULES.of_job, RULES.check, RULES.explain)


wildcard_constraints:
    **RULES.constraints,


# The shell outlives what tells its stage to stop (SIGTERM, Ctrl-C, a closed terminal), so that the stage can save
# and still be heard. A trap with a command in it is the shell's alone: the stage begins with the signals' own meaning.
# `to_log FILE` shows what it reads and writes it to FILE; the log of an earlier attempt becomes FILE.1, FILE.2, ...
# Under a live display (`--logger rich`) it only writes: lines of jobs would tear that apart.
STOPS = "TERM INT HUP"
SHOWN = "cat >" if "rich" in workflow.output_settings.log_handler_settings else "tee"
shell.prefix(
    f"set -euo pipefail; trap : {STOPS}; "
    f"to_log() {{{{ trap '' {STOPS}; local n=1; "
    'while [ -e "$1.$n" ]; do n=$((n + 1)); done; '
    f'if [ -s "$1" ]; then mv "$1" "$1.$n"; fi; {SHOWN} "$1"; }}}}; '
)
