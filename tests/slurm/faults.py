"""`python -m tests.slurm.faults --faults 30 [--scale demo]`: random faults over a scale's trainings, one run.

The scale runs once here undisturbed, then through the SLURM profile while its training jobs are cancelled,
killed, put back, their nodes lost and the controller restarted. Prints the faults, the jobs with nodes and
GPUs, whether every result has the same bytes, and the share of the work done twice; status 0 if all is well.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.slurm import workflows
from tests.slurm.cluster import Cluster, missing

DAY = 86_400


def main() -> int:
    """Run it; 0 if the digests agree, every fault was made, and less than a tenth was done twice."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=30)
    parser.add_argument("--scale", default="mini", help="mini, demo, or another file of config/scales")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the jobs that are hit")
    parser.add_argument("--seconds", type=float, default=2, help="between two checkpoints")
    given = parser.parse_args()
    if reason := missing():
        print(reason, file=sys.stderr)
        return 2
    work = Path(tempfile.mkdtemp(prefix="faults-"))
    target = f"results/{given.scale}/table2a.csv"
    extra = {"AMBIENT_CHECKPOINT_SECONDS": str(given.seconds)}
    local = workflows.clone(work / "local")
    head = workflows.snakemake(local, ["--cores", str(os.cpu_count()), target], dict(os.environ) | extra)
    workflows.finished(head, local, DAY)
    folder, cluster = workflows.clone(work / "slurm"), Cluster()
    try:
        cluster.start()
        head = workflows.snakemake(
            folder, [*workflows.PROFILE, "--retries", str(given.faults + 3), target],
            cluster.environment() | extra)
        faults = workflows.strike(cluster, folder, head, given.faults, local, given.seed, given.scale)
        workflows.finished(head, folder, DAY)
        for job in cluster.jobs():
            print("job {id:>4} {state:12} {nodes:4} restarts {restarts} {gpus} {comment}".format(**job))
    finally:
        cluster.stop()
    facts = workflows.trainings(folder, given.scale).values()
    repeated = sum(f["repeated_images"] for f in facts) / sum(f["images_seen"] for f in facts)
    whole = workflows.digests(local, given.scale)
    same = workflows.digests(folder, given.scale) == whole
    print(f"{len(faults)} faults {dict(Counter(kind for kind, _, _ in faults))}; "
          f"{sum(f['resumptions'] for f in facts)} resumptions; {repeated:.1%} of the work done twice; "
          f"digests {'equal' if same else 'DIFFER'} ({len(whole)} files); {work}")
    return int(not (same and len(faults) == given.faults and repeated < 0.1))


if __name__ == "__main__":
    sys.exit(main())
