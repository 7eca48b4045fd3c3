"""`python -m ambient efficiency results/<scale>`: what finished jobs used, from their manifests.

Utilisation is the arithmetic done a second (the network's own cost) over what the
devices are said to sustain (`gpu_tflops` or `cpu_tflops` of the site's settings), for the last attempt of a
job. Images seen again after a loss are counted apart.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ambient.cluster import site as sites
from ambient.cluster.site import Site
from ambient.provenance import manifest
from ambient.provenance.pace import rate_of
from ambient.settings import home
from ambient.specs import TrainingSpec
from ambient.specs.stage import PREFIX
from ambient.specs.stages import STAGES
from ambient.specs.strict import build
from ambient.storage import regular
from ambient.storage.text import first_line, skipped


@dataclass(frozen=True)
class Job:
    """A finished job. `device_hours` reckons all its images at the rate of its last attempt."""

    name: str
    stage: str
    images: int
    rate: float  # images/s
    device_hours: float
    devices: str
    restarts: int
    repeated: int
    utilisation: float | None

    def __str__(self) -> str:
        used = "" if self.utilisation is None else f"{self.utilisation:4.0%}"
        return (f"{self.stage:10} {self.images:12,} {self.rate:10,.1f} {self.device_hours:9.2f} "
                f"{self.devices:7} {used:5} {self.restarts:8} {self.repeated:12,}  {self.name}")


HEADER = (f"{'stage':10} {'images':>12} {'images/s':>10} {'hours':>9} {'on':7} {'used':5} {'restarts':>8} "
          f"{'repeated':>12}  job")


def job(path: Path, found: Mapping, folder: Path, site: Site) -> Job | None:
    """The job behind an artefact and its manifest, or None for a stage that is not counted."""
    facts, stage = found["facts"], found["stage"].removeprefix(PREFIX)
    row = STAGES.get(stage)
    if row is None or not row.counts_images or path.suffix != Path(row.outputs["out"]).suffix:
        return None  # of several outputs the first one stands for the job
    images, seconds = facts.get("images_seen", facts.get("samples")), found["execution"]["wall_sec"]
    gpus = round(found["execution"].get("gpu_sec", 0) / seconds) if seconds else 0
    rate = rate_of(found)
    utilisation = None
    if "image" in facts:
        network = build(TrainingSpec, found["spec"], str(path)).network.cost(*facts["image"])
        sustained = site.gpu_tflops * gpus if gpus else site.cpu_tflops
        utilisation = 6 * network.multiply_adds * rate / (sustained * 1e12)
    repeated = facts.get("repeated_images", 0)
    hours = (images + repeated) / rate / 3600 * max(gpus, 1) if rate else seconds / 3600
    return Job(path.parent.relative_to(folder).as_posix(), stage, images, rate, hours,
               f"{gpus} GPU" if gpus else "CPU", facts.get("resumptions", 0), repeated, utilisation)


def jobs(folder: Path, site: Site) -> Iterator[Job]:
    """Every training and every set of samples below a folder."""
    for path, record in manifest.read_below(folder, skipped):
        try:
            found = job(path, record, folder, site)
        except (ValueError, LookupError, TypeError, ArithmeticError) as error:
            skipped(f"{path}: its manifest does not say what its job did ({first_line(error)})")
            continue
        if found:
            yield found


def main(arguments: list[str]) -> int:
    """Print one line a job, and the totals."""
    parser = argparse.ArgumentParser(prog="python -m ambient efficiency", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="results/<scale>")
    parser.add_argument("--config", type=Path, default=home(), help="folder of the YAML files (%(default)s)")
    given = parser.parse_args(arguments)
    if regular.kind(given.folder) != regular.FOLDER:
        raise ValueError(f"{given.folder}: no such folder")
    if not given.config.is_dir():
        raise ValueError(f"--config {given.config}: no such folder")
    found = list(jobs(given.folder, sites.read(given.config)))
    if not found:
        raise ValueError(f"{given.folder}: no finished training and no samples below it")
    print(HEADER, *found, sep="\n")
    gpu = sum(one.device_hours for one in found if "GPU" in one.devices)
    cpu = sum(one.device_hours for one in found if "GPU" not in one.devices)
    images, repeated = sum(one.images for one in found), sum(one.repeated for one in found)
    print(f"{len(found)} jobs, {gpu:.2f} GPU-hours, {cpu:.2f} CPU-job-hours, "
          f"{sum(one.restarts for one in found)} restarts, {repeated / images:.1%} of the work done twice")
    return 0
