"""`python -m ambient sample SCALE`: images of a trained run as PNG files, with a contact sheet.

Image k is a function of the seed and of k alone: a larger --count continues a folder, and with a sampling
seed of the workflow the images are those of the run's samples.safetensors, but for rounding where its job
compiled the network, as long jobs on a GPU do. After a stop, the same command goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ambient.commands import scale as scales
from ambient.commands.pictures import contact_sheet, pixels_of, sample_at, write_png
from ambient.commands.scale import Chosen, Origin, origin
from ambient.data.submitted import ABOUT, SHEET
from ambient.jobs.progress import Progress
from ambient.specs import SamplingSpec
from ambient.specs.strict import SEEDS, plain, require
from ambient.storage.files import digest, read_json, sha256, write_json
from ambient.storage.text import printable

if TYPE_CHECKING:
    from ambient.data.text_states import Told
    from ambient.evaluation.draw import Draw

SHOWN = 256  # images of the contact sheet


@dataclass(frozen=True)
class Wanted:
    """Samples 0 to count - 1 of one sampling seed."""

    run: Chosen
    weights: Origin
    snapshot: int
    seed: int
    count: int

    @cached_property
    def encoder(self) -> Path | None:
        """The encoder that decodes what is drawn, where the run works on latents."""
        path = self.run.files.encoder_of_run(self.run.run)
        return path and scales.beside(self.run.denoiser, path)

    @cached_property
    def guide(self) -> Path | None:
        """The weights of the denoiser that guides, where the run is sampled with guidance."""
        path = self.run.files.guide(self.run.run)
        return path and scales.beside(self.run.denoiser, path)

    @cached_property
    def captions(self) -> Path | None:
        """The dataset whose captions the images are of, where the run's denoiser is told captions."""
        path = self.run.files.captions_of_samples(self.run.run)
        return path and scales.beside(self.run.denoiser, path)

    @cached_property
    def texts(self) -> Path | None:
        """The states of these captions."""
        path = self.run.files.texts_of_samples(self.run.run)
        return path and scales.beside(self.run.denoiser, path)

    @property
    def sampling(self) -> SamplingSpec:
        """How the workflow samples the run."""
        return self.run.experiments.sampling(self.run.run)

    @cached_property
    def settings(self) -> dict:
        """All that an image depends on but its number. Files are read whole for it."""
        own = {"encoder_sha256": sha256(self.encoder)} if self.encoder else {}
        if self.sampling.guide:
            own |= {"guidance": self.sampling.guidance, "guide": plain(self.sampling.guide)}
        if self.guide:
            own["guide_sha256"] = sha256(self.guide)
        if self.captions:
            own |= {"captions": self.sampling.captions, "captions_each": self.sampling.captions_each,
                    "captions_sha256": sha256(self.captions)}
        return own | {"weights_sha256": self.weights.sha256, "snapshot": self.snapshot, "seed": self.seed,
                "sampler": plain(self.sampling.sampler), "precision": self.sampling.precision}

    def key(self, number: int) -> str:
        """What a PNG says of itself."""
        return f"{digest(self.settings)}/{number}"

    def about(self) -> dict:
        """What lies beside the images as JSON."""
        made = {"scale": self.run.experiments.scale, "run": self.run.run, "training_seed": self.run.seed}
        return made | self.settings | {"count": self.count, "provenance_root": self.weights.plain(),
                                       "weights": self.run.denoiser.as_posix()}


def name(number: int) -> str:
    """The file of a sample; the order of names is that of numbers."""
    return f"{number:06}.png"


def check_folder(out: Path, wanted: Wanted) -> None:
    """Raise `ValueError` for a folder that holds anything but samples of these settings."""
    if not out.exists():
        return
    if not out.is_dir():
        raise ValueError(f"--out {out}: a file is there: give a folder")
    about = out / ABOUT
    if not about.is_file():
        if any(out.iterdir()):
            raise ValueError(f"--out {out}: holds files that this command did not write: give another folder")
        return
    try:
        found, now = read_json(about), wanted.settings
    except ValueError as error:
        raise ValueError(f"--out {out}: {error}: give another folder") from None
    for key, value in now.items():
        present = found.get(key) if isinstance(found, Mapping) else None
        if present != value:
            raise ValueError(f"--out {out}: holds samples of {key} {present}, these would be of {value}: "
                             "give another folder")


def write_about(out: Path, about: Mapping) -> None:
    """Make the folder, and write what lies beside the images. Raises `ValueError` where that can't be."""
    with scales.writing(out):
        write_json(out / ABOUT, about)


def drawer_of(wanted: Wanted, told: Told | None, each: int) -> Draw:
    """What draws the images: of captions, where the denoiser is `told` them."""
    from ambient.evaluation.draw import Draw
    from ambient.training.encoding import Decoder
    from ambient.training.hardware import device
    from ambient.training.loading import load_sampled

    where, spec = device(), wanted.sampling
    decoder = Decoder(wanted.encoder, where) if wanted.encoder else None
    sampled = load_sampled(wanted.run.denoiser, wanted.snapshot, wanted.guide, spec, where)
    return Draw(*sampled, spec.sampler, spec.precision, where, decoder, told, each)


def draw(wanted: Wanted, drawer: Draw, path_of: Callable[[int], Path], key: Callable[[int], str],
         progress: Progress, before: int = 0) -> None:
    """Write the samples that are not there yet, in the workflow's own batches; `before`: images done."""
    from ambient.stages.sample import batch_of

    size = batch_of(drawer.where.type, drawer.shape[-1])
    for first in range(0, wanted.count, size):
        ids = range(first, min(first + size, wanted.count))
        missing = [k for k in ids if sample_at(path_of(k), key(k), drawer.image) is None]
        drawn = drawer.images(wanted.seed, ids) if missing else None
        for k in missing:
            write_png(path_of(k), drawn[k - first], key(k))
        progress.update(before + ids.stop)


def wanted_of(given: argparse.Namespace, run: Chosen) -> Wanted:
    """What the command line asks for. Raises `ValueError` before anything heavy is loaded."""
    require(given.count > 0, "--count", given.count, ">= 1")
    require(0 <= given.seed < SEEDS, "--seed", given.seed, "0 to 2^63 - 1")
    snapshot = run.experiments.training(run.run, run.seed).snapshots[-1]
    return Wanted(run, origin(run.denoiser), snapshot, given.seed, given.count)


def main(arguments: list[str]) -> int:
    """Draw, and say where the images are."""
    parser = argparse.ArgumentParser(prog="python -m ambient sample", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    scales.add_options(parser)
    scales.add_training_seed(parser)
    parser.add_argument("--count", type=int, default=64, help="how many images (default: 64)")
    parser.add_argument("--seed", type=int, default=0,
                        help="sampling seed: image k is a function of it and of k (default: 0)")
    parser.add_argument("--out", type=Path, metavar="DIR",
                        help="folder for the images (default: samples/SCALE/RUN); it is empty, or holds such "
                        "images")
    given = parser.parse_args(arguments)
    wanted = wanted_of(given, scales.chosen(given))
    out = given.out or Path("samples", given.scale, wanted.run.run)
    check_folder(out, wanted)
    write_about(out, wanted.about())
    from ambient.stages.sample import told_of

    told = told_of(wanted.sampling, wanted.captions, wanted.texts)
    draw(wanted, drawer_of(wanted, told, wanted.sampling.captions_each), lambda k: out / name(k), wanted.key,
         Progress("sample", wanted.count))
    shown = [pixels_of(out / name(k)) for k in range(min(wanted.count, SHOWN))]
    contact_sheet(out / SHEET, np.stack(shown))
    print(printable(f"{out}: {wanted.count} samples of {wanted.run.run} (scale {given.scale}), the first "
                    f"ones on {SHEET}; {ABOUT} says how they were made"))
    return 0
