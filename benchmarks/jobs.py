"""Jobs of the stages whose inputs grow with the number of images, on synthetic files (`benchmarks.memory`).

Images are zeros of the shape of CIFAR-10, and files are sparse: what images show changes no memory. Networks
are small and learn for two steps, so that what grows is what the stages themselves keep of each image.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ambient.data.annotations import Annotations
from ambient.data.texts import Texts
from ambient.settings import Experiments
from ambient.specs import CombineSpec, OptimiserSpec, TrainingSpec
from benchmarks.store import sparse

SHAPE, LATENT, STATE = (3, 32, 32), (4, 8, 8), (8, 64)  # of an image, a latent, a caption's states
FEW = 200  # images that the networks learn from which jobs ask
WIDE = 2048  # features of Inception
WORDS = ("blue", "green", "red", "white", "yellow", "purple", "circle", "square",  # of the captions of scenes
         "star", "heart", "ring", "moon", "cross", "arrow", "diamond", "triangle")
Job = tuple[str, Any, dict[str, Any]]  # stage, specification, files by role; outputs begin with `out`


def short(optimiser: OptimiserSpec, steps: int = 2) -> OptimiserSpec:
    """The same for so many steps."""
    return replace(optimiser, nimg=steps * optimiser.batch, ramp_nimg=0)


def brief(spec: TrainingSpec) -> TrainingSpec:
    """A training of two steps."""
    optimiser = short(spec.optimiser)
    return replace(spec, optimiser=optimiser, snapshots=(optimiser.nimg,), start=None, keep_state=False)


class Settings:
    """Specifications as the scales have them, made short."""

    demo, small, paper = (Experiments("config", scale) for scale in ("demo", "small", "paper"))

    def training(self) -> TrainingSpec:
        return brief(self.small.training("ambient-blur-0.8", 0))

    def on_latents(self) -> TrainingSpec:
        return brief(self.demo.training("quality-xs", 0))

    def on_captions(self) -> TrainingSpec:
        return brief(self.demo.training("text-ambient", 0))

    def classifier(self) -> Any:
        spec = self.small.classifier("controlled", "balanced")
        return replace(spec, optimiser=short(spec.optimiser), evaluations=1,
                       network=replace(spec.network, model_channels=4, num_blocks=1))

    def detector(self) -> Any:
        return replace(self.small.portable_detector("cifarnet"), members=1, channels=8, features=WIDE,
                       nimg=40, batch=20)

    def encoder(self) -> Any:
        return replace(self.demo.encoder("digit-coder"), widths=(8, 16), nimg=64)

    def text_encoder(self) -> Any:
        spec = self.demo.text_encoder("scene-model")
        return replace(spec, nimg=2 * spec.batch)

    def sampling(self, count: int) -> Any:
        spec = self.small.sampling("ambient-blur-0.8")
        return replace(spec, num_samples=count, seeds=(0,), sampler=replace(spec.sampler, num_steps=2))


class Files:
    """The files of so many images in a folder, each made when a job first asks for it."""

    def __init__(self, folder: Path, count: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.count, self.ids = folder, count, np.arange(count)
        self.bad = (self.ids % 10 > 0).astype(np.uint8)

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"

    def images(self, name: str, count: int, **known: np.ndarray) -> Path:
        ids = np.arange(count)
        sparse(self.path(name), {"images": ((count, *SHAPE), np.uint8)},
               {"labels": ids % 10, "ids": ids} | known)
        return self.path(name)

    @cached_property
    def archive(self) -> Path:
        """A zip of PNGs, the same one under every name."""
        content = io.BytesIO()
        Image.fromarray(np.zeros((*SHAPE[1:], 3), np.uint8)).save(content, "png")
        with zipfile.ZipFile(self.folder / "images.zip", "w") as file:
            for k in range(self.count):
                file.writestr(f"{k // 1000:05}/img{k:08}.png", content.getvalue())
        return self.folder / "images.zip"

    @cached_property
    def dataset(self) -> Path:
        return self.images("dataset", self.count)

    @cached_property
    def mixture(self) -> Path:
        return self.images("mixture", self.count, corrupted=self.bad)

    @cached_property
    def texts(self) -> Texts:
        """A caption of its own for each image."""
        return Texts.of(" ".join(WORDS[k >> 4 * place & 15] for place in range(5))
                        for k in range(self.count))

    @cached_property
    def captions(self) -> Path:
        """A mixture with captions, of whose images latents are read."""
        sparse(self.path("captions"), {}, {"labels": self.ids % 10, "ids": self.ids, "corrupted": self.bad}
               | self.texts.arrays())
        return self.path("captions")

    @cached_property
    def states(self) -> Path:
        sparse(self.path("states"), {"states": ((self.count, *STATE), np.float16)},
               {"digests": self.texts.digests()})
        return self.path("states")

    @cached_property
    def latents(self) -> Path:
        channels = np.zeros(LATENT[0], np.float32)
        sparse(self.path("latents"), {name: ((self.count, *LATENT), np.float32) for name in ("mean", "std")},
               {"ids": self.ids, "shift": channels, "scale": channels + 1})
        return self.path("latents")

    @cached_property
    def annotations(self) -> Path:
        Annotations(self.ids, self.bad.astype(float), np.zeros(self.count)).write(self.path("annotations"))
        return self.path("annotations")

    @cached_property
    def samples(self) -> Path:
        sparse(self.path("samples"), {"32": ((1, self.count, *SHAPE), np.uint8)}, {})
        return self.path("samples")


class Made:
    """What networks are made of few images, by the stages themselves, once for all sizes."""

    def __init__(self, folder: Path, run: Callable[[str, Job], None]) -> None:
        self.folder, self.run, self.settings = folder, run, Settings()
        self.files = Files(folder / "few", FEW)

    def out(self, name: str, job: Job) -> Path:
        path = self.folder / f"{name}.safetensors"
        stage, spec, files = job
        if not path.exists():
            self.run(name, (stage, spec, {"out": path} | files))
        return path

    @property
    def classifier(self) -> Path:
        return self.out("classifier", ("classifier", self.settings.classifier(), {
            "data": self.files.mixture, "calibration": self.folder / "calibration.json"}))

    @property
    def denoiser(self) -> Path:
        return self.out("denoiser", ("train", self.settings.training(), {
            "data": self.files.mixture, "annotations": self.files.annotations,
            "log": self.folder / "loss.jsonl"}))

    @property
    def detector(self) -> Path:
        return self.out("detector", ("detector", self.settings.detector(), {"data": self.files.dataset}))

    @property
    def reference(self) -> Path:
        return self.out("reference", ("reference", self.settings.detector(), {
            "data": self.files.dataset, "detector": self.detector}))

    @property
    def encoder(self) -> Path:
        return self.out("encoder", ("encoder", self.settings.encoder(), {"data": self.files.dataset}))

    @property
    def scenes(self) -> Path:
        spec = replace(self.settings.demo.portable_dataset("scenes-seen"), num_images=FEW)
        return self.out("scenes", ("prepare", spec, {}))

    @property
    def text_encoder(self) -> Path:
        return self.out("text-encoder", ("text_encoder", self.settings.text_encoder(), {"data": self.scenes}))


def annotate(files: Files, made: Made) -> Job:
    spec = made.settings.small.annotation("controlled", "per-sample")
    return "annotate", replace(spec, reference_draws=2), {
        "data": files.mixture, "classifier": made.classifier, "summary": files.folder / "summary.json"}


def fixed(files: Files, made: Made) -> Job:
    return ("annotate", made.settings.small.annotation("controlled", "all"), {
        "data": files.mixture, "summary": files.folder / "summary.json"})


def prepare(files: Files, made: Made) -> Job:
    spec = replace(made.settings.paper.portable_dataset("ffhq"), resolution=SHAPE[-1], num_images=None,
                   labels="none")
    return "prepare", spec, {"raw": files.archive}


def corrupt(files: Files, made: Made) -> Job:
    return "corrupt", made.settings.small.mixture("controlled", "blur-0.6", 0.1), {"data": files.dataset}


def scores(files: Files, made: Made) -> Job:
    return "scores", made.settings.demo.scorer("sharpness"), {
        "data": files.dataset, "table-out": files.folder / "scores.csv"}


def combine(files: Files, made: Made) -> Job:
    return "combine", CombineSpec(("one/a", "two/a")), {
        "data": [files.mixture, files.mixture], "annotations": [files.annotations, files.annotations],
        "out-annotations": files.path("combined"), "summary": files.folder / "summary.json"}


def train(files: Files, made: Made) -> Job:
    return "train", made.settings.training(), {
        "data": files.mixture, "annotations": files.annotations, "log": files.folder / "loss.jsonl"}


def train_on_latents(files: Files, made: Made) -> Job:
    stage, _, given = train(files, made)
    return stage, made.settings.on_latents(), given | {"latents": files.latents}


def train_on_captions(files: Files, made: Made) -> Job:
    stage, _, given = train(files, made)
    return stage, made.settings.on_captions(), given | {
        "data": files.captions, "latents": files.latents, "texts": files.states}


def evaluate(files: Files, made: Made) -> Job:
    spec = replace(made.settings.small.evaluation("ambient-blur-0.8"), detector=made.settings.detector(),
                   seeds=(0,), earlier_seeds=None)
    return "evaluate", spec, {
        "samples": files.samples, "detector": made.detector, "reference": made.reference,
        "out": files.folder / "metrics.json", "moments-out": files.path("moments")}


def landmarks(files: Files, made: Made) -> Job:
    spec = replace(made.settings.small.landmarks("controlled", "cifarnet"), detector=made.settings.detector(),
                   num_samples=FEW, draws=2)
    return "landmarks", spec, {"data": files.dataset, "mixture": files.mixture, "detector": made.detector,
                               "out": files.folder / "landmarks.csv"}


def reference(files: Files, made: Made) -> Job:
    return "reference", made.settings.detector(), {"data": files.dataset, "detector": made.detector}


# By name, of the files of so many images and of networks.
JOBS: dict[str, Callable[[Files, Made], Job]] = {
    "prepare": prepare, "corrupt": corrupt, "scores": scores, "combine": combine,
    "encoder": lambda files, made: ("encoder", made.settings.encoder(), {"data": files.dataset}),
    "encode": lambda files, made: ("encode", made.settings.demo.encoding("edm2"), {
        "data": files.mixture, "encoder": made.encoder}),
    "texts": lambda files, made: ("texts", made.settings.demo.text_states("scene-model", "scenes"), {
        "data": files.captions, "text-encoder": made.text_encoder}),
    "classifier": lambda files, made: ("classifier", made.settings.classifier(), {
        "data": files.mixture, "calibration": files.folder / "calibration.json"}),
    "annotate: all alike": fixed,
    "annotate: shared noise, 24 levels": annotate,
    "train": train, "train: latents": train_on_latents, "train: latents and captions": train_on_captions,
    "sample": lambda files, made: ("sample", made.settings.sampling(files.count), {
        "denoiser": made.denoiser}),
    "detector": lambda files, made: ("detector", made.settings.detector(), {"data": files.dataset}),
    "reference: 2,048 features": reference, "evaluate: 2,048 features": evaluate,
    "landmarks: 2,048 features": landmarks,
    "sample_scores": lambda files, made: ("sample_scores", made.settings.demo.scorer("sharpness"), {
        "samples": files.samples})}
