"""`ambient new NAME --images FOLDER`: a scale for your own images, good ones and others.

Looks at all images first, says what it would convert or leave out, which count as good and by what, how long
the run takes, and what can't be done. Then it writes one file, config/scales/NAME.yaml, for you to read and
edit. Your images are never changed, moved or deleted.
"""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

from ambient import settings
from ambient.cluster.plan import jobs
from ambient.cluster.site import Site
from ambient.commands import new_look
from ambient.commands.new_parts import SHARE, parts_of
from ambient.commands.new_scale import scale
from ambient.commands.new_sizes import sizes
from ambient.commands.new_speed import steps_tflops
from ambient.data.photos import Photos, readable
from ambient.data.raw import Raw
from ambient.data.squares import CROPS
from ambient.settings import Experiments
from ambient.settings.files import NAME
from ambient.specs import DatasetSpec
from ambient.storage.files import write_text

GREY = "grey, taken as colour"


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="ambient new", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the scale: small letters, digits, dots and dashes")
    parser.add_argument("--images", type=Path, required=True, help="folder or zip of all images")
    parser.add_argument("--good", type=Path, help="which are good: a folder, a list of names (.txt), or a "
                        "table with scores (.csv); without it a measure of quality tells")
    parser.add_argument("--bad", action="append", default=[], metavar="KIND=FOLDER",
                        help="a folder of others of one kind, which get an annotation of their own; several "
                             "allowed")
    parser.add_argument("--column", help="title of the column of scores in the table")
    parser.add_argument("--at-least", type=float, help="score from which an image is good")
    parser.add_argument("--share", type=float, default=SHARE,
                        help="without --at-least: the share of images, by their scores, that is good "
                             "(%(default)s)")
    parser.add_argument("--measure", default="quality", help="of quality, where there is no --good "
                        "(%(default)s)")
    parser.add_argument("--resolution", type=int, default=32, help="side in pixels of what is learnt "
                        "(%(default)s)")
    parser.add_argument("--channels", type=int, choices=(1, 3), help="1: grey, 3: colour; by default as the "
                        "images")
    parser.add_argument("--crop", choices=tuple(CROPS), default="centre", help="how squares are cut "
                        "(%(default)s)")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each method (%(default)s)")
    parser.add_argument("--config", type=Path, help="folder of the YAML files")
    return parser


def refuse(given: argparse.Namespace, folder: Path) -> Path:
    """The file to write. Raises `ValueError` for arguments that can't be meant."""
    if not re.fullmatch(NAME, given.name):
        raise ValueError(f"NAME: got {given.name!r}, allowed: small letters, digits, dots and dashes")
    path = folder / "scales" / f"{given.name}.yaml"
    if path.exists():
        raise ValueError(f"{path}: exists. Edit it, or remove it, or choose another name")
    if not given.images.exists():
        raise ValueError(f"--images: no such folder or zip: {given.images}")
    if given.good is not None and not given.good.exists():
        raise ValueError(f"--good: no such folder or file: {given.good}")
    if not 0 < given.share < 1:
        raise ValueError(f"--share: got {given.share}, allowed: between 0 and 1")
    if given.seeds < 1:
        raise ValueError(f"--seeds: got {given.seeds}, allowed: 1 or more")
    return path


def bad_of(written: list[str]) -> list[tuple[str, Path]]:
    """(kind, folder) of each `--bad`. Raises `ValueError`."""
    found = []
    for one in written:
        kind, _, folder = one.partition("=")
        there = folder and Path(folder).is_dir()
        if not re.fullmatch(NAME, kind) or not there or kind in ("good", "other"):
            raise ValueError(f"--bad: got {one!r}, allowed: KIND=FOLDER, a name other than good and other, "
                             "and a folder that is there")
        found.append((kind, Path(folder).absolute()))
    return found


def look(given: argparse.Namespace) -> tuple[Photos, DatasetSpec, str]:
    """(all images of the folder, how they are read, the folder's SHA-256): as colour unless all are grey."""
    for channels in (given.channels,) if given.channels else (3, 1):
        raw = Raw(given.images)
        spec = DatasetSpec("photos", given.resolution, channels, crop=given.crop)
        photos = readable(raw, spec)
        if photos.converted[GREY] < len(photos.rows):
            break
    return photos, spec, raw.close()[0]


def told_time(scale_name: str, folder: Path) -> str:
    """How long the scale's run takes: on this machine, by a few training steps timed here, and on a GPU."""
    experiments = Experiments(folder, scale_name)
    runs = [row.run for row in experiments.tables[scale_name].rows]
    cores = len(os.sched_getaffinity(0))
    here = Site(gpus=0, cpu_tflops=steps_tflops(experiments, runs[0]))
    minutes = [work.minutes(here) for _, work in jobs(experiments, scale_name)]
    gpu = sum(work.minutes(Site()) for _, work in jobs(experiments, scale_name))
    at_once = max(sum(minutes) / min(cores, len(runs)), max(minutes))
    return (f"about {at_once:.0f} minutes on this machine ({min(cores, len(runs))} of {cores} cores, by a "
            f"few training steps just timed), {gpu:.0f} on a GPU that sustains {Site().gpu_tflops:g} Tflop/s")


def main(written: list[str]) -> int:
    """Look, say what was seen, write the scale; status 2 where nothing can be made of the images."""
    given = arguments().parse_args(written)
    folder = given.config or settings.home()
    path, bad = refuse(given, folder), bad_of(given.bad)
    chosen_sizes = sizes(given.resolution)
    given.images = given.images.absolute()
    good = given.good and given.good.absolute()
    photos, spec, sha256 = look(given)
    parts = parts_of(given.images, sha256, spec, photos, good, bad, column=given.column,
                     at_least=given.at_least, measure=given.measure, share=given.share)
    for line in (f"{given.images}:", *new_look.described(photos), *new_look.kinds(parts)):
        print(line)
    reasons = list(new_look.against(parts))
    if reasons:
        raise ValueError("; ".join(reasons))
    for line in new_look.warnings(photos, parts, given.resolution):
        print(f"  note: {line}")
    common = {"resolution": given.resolution, "channels": spec.channels, "crop": given.crop}
    write_text(path, scale(given.name, parts, common, chosen_sizes, given.seeds))
    try:
        print(f"time: {told_time(given.name, folder)}")
    except BaseException:
        path.unlink()
        raise
    print(f"written: {path}. Read it, edit what you like, then run\n"
          f"  snakemake --cores 2 --config scale={given.name}\nfor results/{given.name}/report.html")
    return 0
