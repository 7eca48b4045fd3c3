"""`python -m ambient annotate SCALE --images FOLDER`: sigma_min of new images, as CSV.

sigma_min is the noise level from which a model may learn from an image. The noise classifier that annotated a
run's training images tells it, by the same settings. An image that is one of them gets the annotation that it
had there; what any other gets does not depend on which images are asked with it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ambient.commands import scale as scales
from ambient.commands.images import Prepared, prepared
from ambient.commands.scale import Chosen, beside, existing, writing
from ambient.jobs.progress import Progress
from ambient.jobs.stopping import say
from ambient.specs import AnnotationSpec, DatasetSpec
from ambient.storage.arrays import selected
from ambient.storage.files import sha256, temporary_beside, write_text
from ambient.storage.text import printable

if TYPE_CHECKING:
    from ambient.annotation.trajectories import Dense
    from ambient.data.datasets import Dataset

COLUMNS = ("file", "sigma_min", "crossed", "training_id")  # before those of P(good)
LEVELS = 5  # at which P(good) is given
TOGETHER = 256  # images between two lines of progress at most


@dataclass(frozen=True)
class Asked:
    """An annotation of the workflow's, of which new images are asked.

    `data` is the mixture that it annotates, `dataset` says how raw images become images of that kind.
    """

    run: Chosen
    corruption: str
    annotation: str
    spec: AnnotationSpec
    classifier: Path
    data: Path
    dataset: DatasetSpec


def part_of(run: Chosen, corruption: str | None) -> tuple[str, str]:
    """The (corruption, annotation) of a run that is meant: of several, the one with this corruption."""
    parts = run.experiments.run(run.run).parts
    meant = [part for part in parts if corruption in (None, part[0])]
    if len(meant) != 1:
        raise ValueError(f"--corruption: got {corruption or 'none'}, allowed for the run {run.run}: one of "
                         f"{', '.join(name for name, _ in parts)}")
    return meant[0]


def asked_of(run: Chosen, corruption: str | None) -> Asked:
    """What the command line means. Raises `ValueError` for a run that no noise classifier annotated."""
    experiments, study = run.experiments, run.experiments.run(run.run).study
    corruption, annotation = part_of(run, corruption)
    classifier = run.files.classifier(study, corruption, annotation)
    spec = experiments.annotation(study, annotation)
    if classifier is None:
        raise ValueError(f"--run: {run.run} is annotated by the method {spec.method}, allowed: a run that a "
                         "noise classifier annotated")
    if (encoder := experiments.study(study).encoder) is not None:
        raise ValueError(f"--run: {run.run} works on the latents of {encoder}, allowed: a run that works on "
                         "pixels")
    added = experiments.added_dataset(corruption)
    data = beside(existing(classifier), run.files.mixture(study, corruption))
    dataset = experiments.dataset(added or experiments.study(study).dataset)
    return Asked(run, corruption, annotation, spec, Path(classifier), data, dataset)


def content(image: np.ndarray) -> str:
    """What makes an image the same: a digest of its prepared pixels."""
    return hashlib.sha256(image.tobytes()).hexdigest()


def known_of(mixture: Dataset) -> dict[str, int]:
    """Content -> id of the training images that the workflow annotated; of equal ones the first."""
    rows = np.flatnonzero(mixture.corrupted)[::-1]
    return {content(mixture.images[row]): int(mixture.ids[row]) for row in rows}


def ids_of(digests: list[str], known: dict[str, int]) -> np.ndarray:
    """Places in the random streams, int64 (N,): of a training image its own, of another its content's."""
    return np.array([known.get(one, int(one[:15], 16)) for one in digests], np.int64)


def curves_of(asked: Asked, images: np.ndarray, mixture: Dataset,
              ids: np.ndarray) -> tuple[Dense, np.ndarray]:
    """The protocol of the annotation, and its P(corrupted) of prepared images, (N, num_sigmas).

    `ids`: the places of the images in the random streams.
    """
    from ambient.annotation.classifier import Classifier
    from ambient.annotation.trajectories import PROTOCOLS
    from ambient.training.hardware import device

    where = device()
    protocol = PROTOCOLS[asked.spec.protocol](asked.spec, Classifier(asked.classifier, where), where)
    of_all = of_training(asked, protocol, mixture)
    progress, parts = Progress("annotate", len(images)), []
    for first in range(0, len(images), TOGETHER):
        part = slice(first, first + TOGETHER)
        parts.append(protocol.of(images[part], ids[part]))
        progress.update(first + len(parts[-1]))
    training = selected(mixture.images, mixture.corrupted == 1)
    curves = protocol.curves(np.concatenate(parts), training, of_all)
    if asked.spec.OF_MEAN:  # one annotation for all images that are asked together
        curves = np.broadcast_to(curves.mean(axis=0), curves.shape)
    return protocol, curves


def of_training(asked: Asked, protocol: Dense, mixture: Dataset) -> np.ndarray | None:
    """P(corrupted) of the training images where the protocol compares others with their mean, else None.

    It is worked out once and stays in the folder of states, in pieces: a stop costs the piece at work.
    """
    from ambient.annotation.crossings import classify
    from ambient.jobs.identity import identity
    from ambient.jobs.state import State
    from ambient.training.points import Points

    if asked.spec.protocol != "shared_noise":
        return None
    run, study = asked.run.experiments, asked.run.experiments.run(asked.run.run).study
    place = Path("results/.state", run.scale, "new-images", study, asked.corruption, asked.annotation)
    owner = identity("ambient.annotate", asked.spec, [sha256(asked.data), sha256(asked.classifier)])
    with writable(place) as folder:
        return classify(protocol, mixture, Points(mixture), State(folder, owner))


@contextmanager
def writable(place: Path) -> Iterator[Path]:
    """A folder for a state: elsewhere, and not kept, where the results are another's and can't be written."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        kept = os.access(place, os.W_OK)
    except OSError:
        kept = False
    if kept:
        yield place
        return
    say(printable(f"annotate: {place} can't be written: what is asked of the training images is not kept"))
    with TemporaryDirectory() as folder:
        yield Path(folder)


def table_of(asked: Asked, pictures: Prepared) -> pd.DataFrame:
    """A row for each image: sigma_min, whether P(good) crosses tau at any level, and P(good) at a few."""
    from ambient.data.datasets import read

    mixture = read(asked.data)
    known, digests = known_of(mixture), [content(image) for image in pictures.images]
    protocol, curves = curves_of(asked, pictures.images, mixture, ids_of(digests, known))
    training_ids = pd.array([known.get(one) for one in digests], "Int64")
    columns = (pictures.names, protocol.crossing(curves),
               (curves < 0.5 + asked.spec.epsilon).any(axis=1), training_ids)
    table = pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))
    shown = np.unique(np.linspace(0, len(protocol.sigmas) - 1, LEVELS).round().astype(int))
    # By shared noise a curve is the sum of two estimates, and may leave the range of probabilities a little.
    return table.assign(**{f"p_good_at_{protocol.sigmas[k]:.3g}": np.clip(1 - curves[:, k], 0, 1)
                           for k in shown})


def check_out(out: Path | None, images: Path) -> None:
    """Raise `ValueError` for a place that holds anything but such a table, and for one among the images."""
    if out is not None and out.resolve().is_relative_to(images.resolve()):
        raise ValueError(f"--out {out}: lies in the folder of --images, whose SHA-256 it would change: give "
                         "a place elsewhere")
    if out is None or not out.exists():
        return
    if not out.is_file() or not out.read_bytes().startswith(",".join(COLUMNS).encode()):
        raise ValueError(f"--out {out}: is there and is no table of this command: give another name")


def summary(table: pd.DataFrame) -> str:
    """What a table says, in a line."""
    crossed = table.loc[table["crossed"], "sigma_min"]
    middle = f", median sigma_min of these {crossed.median():.3g}" if len(crossed) else ""
    return (f"annotate: {len(table):,} images, {len(crossed):,} usable from some level on{middle}; "
            f"{int(table['training_id'].notna().sum()):,} are training images")


def main(arguments: list[str]) -> int:
    """Annotate, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m ambient annotate", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    scales.add_options(parser)
    parser.add_argument("--images", type=Path, required=True, metavar="FOLDER",
                        help="folder or zip of the images; they are prepared as the scale's own are")
    parser.add_argument("--corruption", metavar="NAME",
                        help="of a run with several kinds of bad images: the kind that these are")
    parser.add_argument("--out", type=Path, metavar="FILE.csv",
                        help="where the table is written (default: it is printed)")
    given = parser.parse_args(arguments)
    asked = asked_of(scales.chosen(given), given.corruption)
    check_out(given.out, given.images)
    pictures = prepared(given.images, asked.dataset)
    for counts, what in ((pictures.converted, "converted"), (pictures.left_out, "left out")):
        for one, count in counts.items():
            say(printable(f"annotate: {what}: {count:,} {one}"))
    if given.out is not None:
        with writing(given.out):  # before the classifier is asked, which may take hours
            temporary_beside(given.out).unlink()
    table = table_of(asked, pictures)
    text = table.to_csv(index=False, lineterminator="\n", float_format="%.9g")
    if given.out is None:
        sys.stdout.write(text)
    else:
        write_text(given.out, text)
    say(summary(table))
    return 0
