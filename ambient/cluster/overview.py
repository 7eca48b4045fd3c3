"""How far a whole workflow is: a line a minute with what is at work, and when all will be done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ambient.jobs.progress import FOLDER, place_of, spoken
from ambient.storage.files import read_json

EVERY = 60.0  # seconds between two lines


def running(results: Path, since: float) -> dict[str, dict]:
    """File name -> what each job at work under `results` said last, of those that spoke after `since`."""
    found = {}
    for path in sorted((results / FOLDER).glob("*.json")):
        try:
            said = read_json(path)
            if said["time"] >= since:
                found[path.name] = said
        except (OSError, ValueError, KeyError, TypeError):  # just being replaced, or of another program
            continue
    return found


def latest(before: Mapping[str, dict], now: Mapping[str, dict]) -> dict[str, dict]:
    """What jobs said last. One whose file is gone has ended, which Snakemake may learn a minute later."""
    ended = {name: said | {"done": said["total"]} for name, said in before.items() if name not in now}
    return ended | dict(now)


def summary(jobs: Mapping[str, tuple[float, bool]], said: Mapping[str, dict], elapsed: float) -> str:
    """The line. `jobs`: name of each job's file -> (its share of the work, whether it is done).

    What is left takes as long as what is done took, by the work in each: so many jobs at once as until now.
    """
    total = sum(share for share, _ in jobs.values()) or 1.0
    part = {name: min(one["done"] / max(one["total"], 1), 1) for name, one in said.items()
            if name in jobs and not jobs[name][1]}
    done = sum(share for share, ended in jobs.values() if ended) + sum(
        jobs[name][0] * said[name].get("of_job", fraction) for name, fraction in part.items())
    left = elapsed * (total - done) / done if done > 0.005 * total else float("inf")
    ended = sum(over for _, over in jobs.values())
    time_left = "time left unknown" if left == float("inf") else f"about {spoken(left)} left"
    at_work = "; ".join(f"{said[name]['name']} {fraction:.0%}" for name, fraction in part.items())
    return (f"Overall: {ended} of {len(jobs)} jobs, {done / total:.0%} of the work, {time_left}; "
            f"{at_work or 'no job reports progress (queued, or short)'}")


class Overview(threading.Thread):
    """Says every minute how far a run is. Ends with the process."""

    def __init__(self, dag: Any, share: Callable[[Any], float], say: Callable[[str], None]) -> None:
        super().__init__(daemon=True)
        self.dag, self.say, self.began, self.clock = dag, say, time.time(), time.monotonic()
        self.jobs: Iterable[Any] = [job for job in dag.needrun_jobs() if job.output]
        self.shares = {job: share(job) for job in self.jobs}

    def run(self) -> None:
        said: dict[str, dict] = {}
        while True:
            time.sleep(EVERY)
            said = latest(said, running(Path("results"), self.began))
            jobs = {place_of(Path(job.output[0])): (self.shares[job], self.dag.finished(job))
                    for job in self.jobs}
            self.say(summary(jobs, said, time.monotonic() - self.clock))
