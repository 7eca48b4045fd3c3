"""`python -m ambient new NAME --images FOLDER`: a scale for your own images, good ones and others.

Looks at all images first, says what it would convert or leave out, which count as good and by what, how long
the run takes, and what can't be done. Then it writes one file, config/scales/NAME.yaml, for you to read and
edit. Your images are never changed, moved or deleted.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import tempfile
import time
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

from ambient import settings
from ambient.cluster.plan import works
from ambient.cluster.site import Site
from ambient.cluster.work import Work
from ambient.commands import new_captions, new_look
from ambient.commands.new_parts import (
    SHARE,
    Rule,
    Seen,
    apart,
    check_nested,
    located,
    parts_of,
    rule_of,
    seen,
)
from ambient.commands.new_scale import scale
from ambient.commands.new_sizes import fewer_levels, sizes
from ambient.data import caption_files
from ambient.data.photos import check_rule
from ambient.data.quality import KINDS
from ambient.data.raw import Raw
from ambient.data.squares import CROPS
from ambient.settings import Experiments
from ambient.settings.files import NAME, base_files, read
from ambient.specs import DatasetSpec
from ambient.specs.strict import SpecError
from ambient.storage.files import write_text

MOST_SEEDS = 100  # trainings of one method
GREY = "grey, taken as colour"


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m ambient new", description=__doc__,
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
    parser.add_argument("--captions", action="store_true", help="read the images' captions and check them, "
                        "from NAME.txt beside each image, metadata.jsonl or metadata.csv; the "
                        "scale captioned learns from such")
    parser.add_argument("--caption-table", type=Path, metavar="FILE", help="the same, from a table of names "
                        "and captions (.csv or .jsonl)")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each method (%(default)s)")
    parser.add_argument("--config", type=Path, help="folder of the YAML files (config)")
    return parser


def is_number(name: str) -> bool:
    """Whether Snakemake takes a word for a number: 08, 1e5, nan and inf are such."""
    try:
        float(name)
    except ValueError:
        return False
    return True


def free(name: str, folder: Path) -> Path:
    """The file of a scale that is not there yet. Raises `ValueError` for a name that can't be one's."""
    if not re.fullmatch(NAME, name) or not isinstance(yaml.safe_load(name), str) or is_number(name):
        raise ValueError(f"NAME: got {name!r}, allowed: small letters, digits, dots and dashes, and no word "
                         "that YAML takes for a number or a truth value, or Snakemake for a number")
    path = folder / "scales" / f"{name}.yaml"
    if path.exists():
        raise ValueError(f"{path}: exists. Edit it, or remove it, or choose another name")
    known = read(base_files(folder), folder)
    for section in ("studies", "tables", "figures"):
        if (entry := known[section].get(name)) is not None:
            raise ValueError(f"NAME: got {name!r}, which {entry.file} has in {section}: choose another name")
    return path


def refuse(given: argparse.Namespace, folder: Path) -> Path:
    """The file to write. Raises `ValueError` for arguments that can't be meant."""
    path = free(given.name, folder)
    if not (given.images.is_dir() or given.images.is_file()):  # the opening of a FIFO would wait for ever
        raise ValueError(f"--images: no such folder or zip: {given.images}")
    if given.good is not None and not (given.good.is_dir() or given.good.is_file()):
        raise ValueError(f"--good: no such folder or file: {given.good}")
    if given.caption_table is not None and not given.caption_table.is_file():
        raise ValueError(f"--caption-table: no such file: {given.caption_table}")
    if not 0 < given.share < 1:
        raise ValueError(f"--share: got {given.share}, allowed: between 0 and 1")
    if not 1 <= given.seeds <= MOST_SEEDS:
        raise ValueError(f"--seeds: got {given.seeds}, allowed: 1 to {MOST_SEEDS}")
    if given.measure not in KINDS:
        raise ValueError(f"--measure: got {given.measure!r}, allowed: {', '.join(KINDS)}")
    if given.at_least is not None and not math.isfinite(given.at_least):
        raise ValueError(f"--at-least: got {given.at_least}, allowed: a number")
    table = given.good is not None and given.good.suffix.lower() == ".csv"
    for option, value, scored in (("--column", given.column, table),
                                  ("--at-least", given.at_least, table or given.good is None)):
        if value is not None and not scored:
            raise ValueError(f"{option}: got {value}, but no scores tell here which images are good: give a "
                             "table by --good scores.csv, or leave it out")
    return path


def bad_of(written: list[str], good: Path | None, images: Path) -> list[tuple[str, Path]]:
    """(kind, folder) of each `--bad`. `good`: that of `--good`, as `located`. Raises `ValueError`."""
    found = []
    for one in written:
        kind, _, written_folder = one.partition("=")
        folder = Path(written_folder).expanduser()  # zsh leaves a ~ behind a = as it is
        there = written_folder and folder.is_dir()
        if not re.fullmatch(NAME, kind) or not there or kind in ("good", "other"):
            raise ValueError(f"--bad: got {one!r}, allowed: KIND=FOLDER, a name other than good and other, "
                             "and a folder that is there")
        folder = located(folder, images)
        if folder == good:
            raise ValueError(f"--bad: {kind} is the folder of --good, {good}: an image is one of them")
        if kind in dict(found):
            raise ValueError(f"--bad: got {kind} twice, allowed: one folder of each kind. Put both into one "
                             "folder, or name one of them otherwise")
        found.append((kind, folder))
    return found


def check_paths(paths: Iterable[tuple[str, Path | None]]) -> None:
    """Refuse what a line of the scale's file can't hold. `paths`: (option, path) of each, links followed."""
    for option, path in paths:
        if path is not None and any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in str(path)):
            raise ValueError(f"{option}: got {str(path)!a}, allowed: a path without line breaks and broken "
                             "characters: rename what has them")


def look(given: argparse.Namespace, rule: Rule,
         bad: Sequence[tuple[str, Path]]) -> tuple[dict[Path, Seen], DatasetSpec, float]:
    """(all folders after a look, that of `--images` first; how they are read; minutes of processor time a
    file).

    As colour unless all are grey. Tables and lists are looked through before.
    """
    def check(names: Sequence[str], unread: Sequence[str]) -> None:
        check_rule(rule.select, rule.file, names, unread)
        if given.caption_table:
            caption_files.from_table(given.caption_table, names)

    for channels in (given.channels,) if given.channels else (3, 1):
        started = time.process_time()
        spec = DatasetSpec("photos", given.resolution, channels, crop=given.crop)
        looked = {given.images: seen(given.images, spec, check)}
        looked |= {folder: seen(folder, spec) for folder in apart(given.images, rule, bad)}
        all_photos = [one.photos for one in looked.values()]
        if any(photos.converted[GREY] < len(photos.rows) for photos in all_photos):
            break
    files = sum(len(photos.names) for photos in all_photos)
    return looked, spec, (time.process_time() - started) / files / 60


@contextmanager
def resolved(text: str, name: str, folder: Path) -> Iterator[Experiments]:
    """The settings of a scale whose file is not written yet, beside the files of a folder of settings."""
    with tempfile.TemporaryDirectory(prefix="ambient-new-") as beside:
        for path in folder.resolve().iterdir():
            if path.name != "scales":
                (Path(beside) / path.name).symlink_to(path)
        write_text(Path(beside) / "scales" / f"{name}.yaml", text)
        try:
            experiments = Experiments(beside, name)
        except SpecError as error:  # of local.yaml, say
            raise SpecError(str(error).replace(beside, str(folder))) from None
        yield experiments


def told_time(experiments: Experiments, reading: float) -> Iterator[str]:
    """How long the scale's run takes: on this machine, by passes of its networks timed here, and on a GPU.

    `reading`: processor time in minutes that one of the images took to be read.
    """
    from ambient.commands.new_speed import tflops

    scale_name, page = experiments.scale, f"results/{experiments.scale}/report.html"
    rates, here = tflops(experiments, page), Counter()
    longest = at_gpu = 0.0
    for node, work in works(experiments, page):
        if node.kind == "prepare":
            work = Work(cpu_minutes=reading * experiments.dataset(node.names["dataset"]).num_images)
        minutes = work.minutes(Site(gpus=0, cpu_tflops=rates.get(node.kind, Site().cpu_tflops)))
        here[node.kind] += minutes
        longest, at_gpu = max(longest, minutes), at_gpu + work.minutes(Site())
    cores, runs = len(os.sched_getaffinity(0)), len(experiments.tables[scale_name].rows)
    at_once = max(here.total() / min(cores, runs), longest)
    yield (f"time: about {at_once:.0f} minutes on this machine ({min(cores, runs)} of {cores} cores, by "
           f"passes of each network that were timed just now), at least {at_gpu:.0f} on a GPU (one that "
           f"sustains {Site().gpu_tflops:g} Tflop/s)")
    told = {stage: minutes for stage, minutes in here.most_common() if stage in rates}
    yield "  minutes of one core: " + ", ".join(
        [*(f"{stage} {minutes:.1f}" for stage, minutes in told.items()),
         f"all else {here.total() - sum(told.values()):.1f}"])


def main(written: list[str]) -> int:
    """Look, say what was seen, write the scale; status 2 where nothing can be made of the images."""
    given = arguments().parse_args(written)
    folder = given.config or settings.home()
    path = refuse(given, folder)
    good = given.good and located(given.good, given.images)
    chosen_sizes, bad = sizes(given.resolution), bad_of(given.bad, good, given.images)
    given.images = given.images.resolve()
    check_paths([("--images", given.images), ("--good", good), *(("--bad", path) for _, path in bad)])
    check_nested(given.images, good, bad)
    rule = rule_of(given.images, good, given.column, given.measure)
    looked, spec, reading = look(given, rule, bad)
    parts = parts_of(given.images, looked, rule, bad, at_least=given.at_least, share=given.share)
    captions, photos = (), looked[given.images].photos
    if given.captions or given.caption_table:
        found = caption_files.read(Raw(given.images), photos, given.caption_table)
        captions = tuple(new_captions.described(found, photos))
        photos = caption_files.without_files(photos, found)
    all_photos = {path: one.photos for path, one in looked.items()} | {given.images: photos}
    for folder_or_zip, one in all_photos.items():
        print(f"{folder_or_zip}:", *new_look.described(one), sep="\n")
    for line in (*new_look.kinds(parts), *captions):
        print(line)
    reasons = list(new_look.against(parts))
    if reasons:
        raise ValueError("; ".join(reasons))
    for line in (*new_look.warnings(all_photos, parts, given.resolution), *fewer_levels(given.resolution)):
        print(f"  note: {line}")
    common = {"resolution": given.resolution, "channels": spec.channels, "crop": given.crop}
    text = scale(given.name, parts, common, chosen_sizes, given.seeds)
    with resolved(text, given.name, folder) as experiments:
        for line in told_time(experiments, reading):
            print(line)
    write_text(path, text)  # last: a command that was stopped before can be given again
    print(f"written: {path}. Read it, edit what you like, then run\n"
          f"  snakemake --cores 2 --config scale={given.name}\nfor results/{given.name}/report.html")
    return 0
