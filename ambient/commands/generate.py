"""`python -m ambient generate SCALE --run RUN "a caption" ...`: images of captions of your own as PNG files.

Image k of a caption is a function of the caption, the seed and k alone: it does not depend on other captions,
nor on --count. After a stop, the same command goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ambient.commands import sample
from ambient.commands import scale as scales
from ambient.commands.pictures import contact_sheet, pixels_of
from ambient.data.caption_files import prompts_of
from ambient.data.submitted import SHEET
from ambient.data.texts import is_whole
from ambient.jobs.progress import Progress
from ambient.settings.experiments import Experiments
from ambient.settings.places import Files
from ambient.specs import GuideSpec, SamplingSpec
from ambient.specs.strict import require
from ambient.storage.files import digest, sha256
from ambient.storage.text import printable

if TYPE_CHECKING:
    from ambient.data.text_states import Told

STRONGEST = 1000  # of guidance: what it multiplies has to stay a number
RULE = "the one that is told captions; where there are several, one has to be named"


@dataclass(frozen=True)
class Generated(sample.Wanted):
    """Samples of captions of one's own, at a guidance of one's own."""

    guidance: float

    @property
    def captions(self) -> None:
        """Of no dataset."""
        return None

    @cached_property
    def text_encoder(self) -> Path:
        """The encoder of the captions."""
        study = self.run.experiments.run(self.run.run).study
        return scales.beside(self.run.denoiser, self.run.files.text_encoder(study))

    @cached_property
    def sampling(self) -> SamplingSpec:
        """How the workflow samples the run, at this guidance: by the null caption, or by the run's guide."""
        spec = self.run.experiments.sampling(self.run.run)
        guide = (spec.guide or GuideSpec(spec.network, told=False)) if self.guidance > 1 else None
        return dataclasses.replace(spec, guidance=self.guidance, guide=guide)

    @cached_property
    def guide(self) -> Path | None:
        """The weights of another denoiser that guides."""
        path = self.run.files.guide(self.run.run) if self.sampling.guided_by_another else None
        return path and scales.beside(self.run.denoiser, path)

    @cached_property
    def settings(self) -> dict:
        """All that an image depends on but its caption and its number."""
        return super().settings | {"text_encoder_sha256": sha256(self.text_encoder)}


def told_runs(experiments: Experiments) -> list[str]:
    """The runs that are told captions, one of each training: those with weights, or all where none has."""
    files, runs = Files(experiments), {}
    for run in experiments.tree["runs"]:
        if experiments.first_training(run).told_captions:
            seeds = experiments.study(experiments.run(run).study).training_seeds
            runs.setdefault(tuple(files.denoiser(run, seed) for seed in seeds), run)
    made = [run for weights, run in runs.items() if any(Path(path).is_file() for path in weights)]
    return made or list(runs.values())


def told_run(experiments: Experiments) -> str:
    """The run that is taken where none is named, by `RULE`. Raises `ValueError` where it isn't one."""
    fitting = told_runs(experiments)
    learnt = [run for run in scales.learnt_runs(experiments) if run in fitting]
    for runs in (learnt, fitting):
        if len(runs) == 1:
            return runs[0]
    raise ValueError(f"--run: not given, and the scale {experiments.scale} has {len(fitting)} runs that are "
                     f"told captions{': name one (' + ', '.join(fitting) + ')' if fitting else ''}")


def wanted_of(given: argparse.Namespace) -> Generated:
    """What the command line asks for. Raises `ValueError` before anything heavy is loaded."""
    run = scales.chosen(given, told_run)
    training = run.experiments.training(run.run, run.seed)
    if not training.told_captions:
        fitting = ", ".join(told_runs(run.experiments)) or f"the scale {given.scale} has none"
        raise ValueError(f"--run: got {run.run!r}, allowed: a run that is told captions ({fitting})")
    plain = sample.wanted_of(given, run)
    require(given.captions, "captions", given.captions, "one or more, or --file")
    empty = [text for text in given.captions if not text.strip()]
    require(not empty, "captions", empty, "texts that say something")
    broken = [ascii(text) for text in given.captions if not is_whole(text)]
    require(not broken, "captions", broken, "texts in UTF-8")
    own = plain.sampling.guidance if given.guidance is None else given.guidance
    require(1 <= own <= STRONGEST, "--guidance", own, f"1 to {STRONGEST}; published ones are below 10")
    require(own == 1 or training.caption_dropout > 0 or plain.sampling.guided_by_another, "--guidance", own,
            "1: the denoiser does not know the null caption (caption_dropout)")
    return Generated(plain.run, plain.weights, plain.snapshot, plain.seed, plain.count, guidance=own)


def told_of(wanted: Generated, captions: list[str]) -> list[Told]:
    """The states of each caption."""
    from ambient.training.hardware import device
    from ambient.training.text_encoding import TextEncoder

    encoder = TextEncoder(wanted.text_encoder, device())
    return [encoder.told([caption]) for caption in captions]


def main(arguments: list[str]) -> int:
    """Draw, and say where the images are."""
    parser = argparse.ArgumentParser(prog="python -m ambient generate", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    scales.add_options(parser, RULE)
    scales.add_training_seed(parser)
    parser.add_argument("captions", nargs="*", metavar="CAPTION", help="what the images shall show")
    parser.add_argument("--file", type=Path, help="further captions: one a line, or a table (.csv, .tsv, "
                        ".jsonl) with a column caption, text or prompt")
    parser.add_argument("--count", type=int, default=4, help="images of each caption (default: 4)")
    parser.add_argument("--guidance", type=float, help="1: none (default: as the workflow samples the run)")
    parser.add_argument("--seed", type=int, default=0,
                        help="sampling seed: image k of a caption is a function of it and of k (default: 0)")
    parser.add_argument("--out", type=Path, metavar="DIR",
                        help="folder for the images (default: generated/SCALE/RUN); it is empty, or holds "
                        "such images")
    given = parser.parse_intermixed_args(arguments)  # captions may follow options, and there may be none
    if given.file is not None:
        if not given.file.is_file():
            raise ValueError(f"--file: no such file: {given.file}")
        given.captions += [one.text for one in prompts_of(given.file)]
    wanted = wanted_of(given)
    captions = list(dict.fromkeys(" ".join(text.split()) for text in given.captions))
    out = given.out or Path("generated", given.scale, wanted.run.run)
    sample.check_folder(out, wanted)
    every = told_of(wanted, captions)  # first, for a caption that the encoder does not know
    sample.write_about(out, wanted.about() | {"captions": captions})
    progress, shown = Progress("generate", len(captions) * wanted.count), []
    drawer = sample.drawer_of(wanted, every[0], each=1)
    for number, (caption, told) in enumerate(zip(captions, every, strict=True)):
        paths = [out / name(caption, k) for k in range(wanted.count)]
        drawer.told = told
        sample.draw(wanted, drawer, paths.__getitem__, lambda k, text=caption: f"{wanted.key(k)}/{text}",
                    progress, number * wanted.count)
        shown += paths
    contact_sheet(out / SHEET, np.stack([pixels_of(path) for path in shown[:sample.SHOWN]]))
    print(printable(f"{out}: {wanted.count} images of each of {len(captions)} captions by "
                    f"{wanted.run.run} (scale {given.scale}), the first ones on {SHEET}"))
    return 0


def name(caption: str, number: int) -> str:
    """The file of an image: its caption's words, a digest that tells it from others, and the number."""
    words = "".join(one if one.isascii() and one.isalnum() else " " for one in caption).split()
    return f"{'-'.join(words)[:60].lower()}-{digest(caption)[:8]}-{number:04}.png"
