"""A score is bound to its own samples and detector, a table's row to its own run, seeds and mixture.

Digests say that a file is the one that was read; they do not say that it was the right one to read. Here the
specifications and places along the chain of a row are held against what the row says of itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ambient.audit.captioned import columns
from ambient.audit.drawn import OF_ROW, check_drawn, check_latents, check_told, drawn_as, target_of
from ambient.audit.traces import (
    Loose,
    Results,
    content,
    inputs_of,
    meaning,
    parent,
    setting,
    trained,
)
from ambient.audit.words import Result
from ambient.specs import (
    ClassifierSpec,
    DetectorSpec,
    EvaluationSpec,
    RowSpec,
    SamplingSpec,
    TableSpec,
    TrainingSpec,
)
from ambient.specs.data import operation
from ambient.specs.strict import build, plain


@dataclass(frozen=True)
class Run:
    """The files behind one score file: of one run and training seed."""

    row: int
    seed: int
    run_id: str
    scores: Result
    samples: Result
    denoiser: Result

    def __str__(self) -> str:
        return f"row {self.row + 1} ({self.run_id}), training seed {self.seed}"


def scores(results: Results, result: Result) -> Iterator[str]:
    """What is wrong with the files that a score file was made from: seeds, detector, reference."""
    try:
        samples = parent(results, result, "samples", "sample")
        for key in ("seeds", "earlier_seeds"):
            drawn, scored = samples.manifest["spec"].get(key), result.manifest["spec"].get(key)
            if drawn != scored:
                yield f"{key} of its samples are {drawn}, its own are {scored}"
        yield from measured(results, result)
    except Loose as error:
        yield str(error)


def measured(results: Results, result: Result) -> Iterator[str]:
    """What is wrong with the detector and the reference that a score was measured with."""
    try:
        weights = parent(results, result, "detector", "detector")
        reference = parent(results, result, "reference", "reference")
        if parent(results, reference, "detector", "detector") is not weights:
            yield f"{reference.path} was measured by another detector than {weights.path}"
        own = setting(result, "detector")
        check_best(results, reference, own.get("best"))
        check_against(results, reference, own.get("against"))
        kind = DetectorSpec.KINDS.get(own.get("kind"))
        # One file of weights serves several detectors.
        lent = dict.fromkeys(("best", "published", "against")) | (
            kind.Spec.APART_FROM_WEIGHTS if kind else {})
        for other, without in ((weights, lent), (reference, {})):
            one, two = (meaning(spec, DetectorSpec, weights=None, **without)
                        for spec in (own, other.manifest["spec"]))
            if one != two:
                yield f"{other.path} is of another detector than its own specification says"
    except Loose as error:
        yield str(error)


def check_best(results: Results, reference: Result, best: Mapping | None) -> None:
    """Raise `Loose` unless moments of the best images are chosen by the scores that a detector names."""
    if best is None:
        return
    scores = parent(results, reference, "scores", "scores")
    if scores.key.stem != best.get("scorer"):
        raise Loose(f"{reference.path} is of the best by {scores.key.stem}, its specification says "
                    f"{best.get('scorer')}")
    if parent(results, scores, "data", "prepare") is not parent(results, reference, "data", "prepare"):
        raise Loose(f"{reference.path} is of the best by scores of other images")


def check_against(results: Results, reference: Result, against: Mapping | None) -> None:
    """Raise `Loose` unless moments of other images than a study's own are of those that a detector names."""
    name = parent(results, reference, "data", "prepare").key.stem
    if against is not None and name != against.get("dataset"):
        raise Loose(f"{reference.path} is of {name}, its specification says {against.get('dataset')}")


def comparison(results: Results, result: Result) -> Iterator[str]:
    """Which scores from outside were measured otherwise than every row of the table that they stand below."""
    try:
        table = parent(results, result, "table", "tables")
        own = [{role: parent(results, score, role, role) for role in ("detector", "reference")}
               for score in inputs_of(results, table, "metrics")]
        for score in inputs_of(results, result, "outside"):
            found = {role: parent(results, score, role, role) for role in ("detector", "reference")}
            if found not in own:
                yield f"{score.path} has another detector or reference than all rows of {table.path}"
    except Loose as error:
        yield str(error)


def table(results: Results, result: Result) -> Iterator[str]:
    """What is wrong with the files that a table was made from. Nothing where it can't be built at all: its
    derivation says so."""
    try:
        spec = build(TableSpec, result.manifest["spec"], "spec")
    except ValueError:
        return
    metrics, annotations, usable, beside, scored = (
        inputs_of(results, result, role) for role in ("metrics", "annotations", "usable", "beside", "scored"))
    if len(metrics) != len(spec.rows) * len(spec.training_seeds) or len(annotations) != len(spec.rows):
        return
    yield from swept(results, result, spec)
    yield from columns(results, result, spec)
    home = result.key.parents[1 if result.stage == "sweep" else 0]  # the folder of its tree
    runs = []
    asked = itertools.product(enumerate(spec.rows), spec.training_seeds)
    for place, (((i, row), seed), score) in enumerate(zip(asked, metrics, strict=True)):
        try:
            run = found_run(results, score, i, row, seed)
            check_place(home, spec.scale, run, row)
            check_drawn(results, run, row)
            check_training(results, run, row, annotations[i])
            check_images(results, run, row, annotations[i])
            check_beside(results, run, usable[i:i + 1], (beside + scored)[place::len(metrics)])
            runs.append(run)
        except Loose as error:
            yield f"row {i + 1} ({row.run_id}), training seed {seed}: {error}"
    try:
        yield from unequal(results, runs, spec.rows)
        yield from copied(results, runs)
    except Loose as error:
        yield str(error)


def swept(results: Results, result: Result, spec: TableSpec) -> Iterator[str]:
    """What is wrong with the sweeps whose least distances a table shows."""
    files = inputs_of(results, result, "sweeps")
    if [(one.stage, one.key.stem) for one in files] != [("sweep", name) for name in spec.sweeps]:
        yield f"shows the least of {', '.join(one.path for one in files)}, its specification names " \
              f"the sweeps {', '.join(spec.sweeps)}"


def found_run(results: Results, metrics: Result, number: int, row: RowSpec, seed: int) -> Run:
    """The chain of a score file up to its weights. Raises `Loose`."""
    if metrics.stage != "evaluate":
        raise Loose(f"{metrics.path} is no output of evaluate")
    samples = parent(results, metrics, "samples", "sample")
    return Run(number, seed, row.run_id, metrics, samples, trained(results, samples))


def check_place(home: Path, scale: str, run: Run, row: RowSpec) -> None:
    """Raise `Loose` unless the files of a run lie in the folder of that run and training seed, and its
    weights in that of the run whose training it has."""
    files = ((run.scores, run.run_id), (run.samples, run.run_id), (run.denoiser, row.training_id))
    for file, folder in files:
        own = PurePosixPath(folder, f"seed-{run.seed}")
        places = [(home / up / own).as_posix() for up in ("", scale)]
        if file.key.parent.as_posix() not in places:
            raise Loose(f"{file.path} does not lie in {own}")


def check_training(results: Results, run: Run, row: RowSpec, summary: Result) -> None:
    """Raise `Loose` unless a training is of the seed, noise levels, loss and classifier that its row says."""
    if (seed := setting(run.denoiser, "seed")) != run.seed:
        raise Loose(f"{run.denoiser.path} was trained with seed {seed}")
    said, weights = plain(row.settings), run.denoiser.manifest["facts"].get("parameters")
    if row.parameters_1e6 is not None and weights != round(1e6 * row.parameters_1e6):
        raise Loose(f"{run.denoiser.path} has {weights} weights, its row says {row.parameters_1e6} million")
    if row.noise is not None:
        said |= {"buffer": row.buffer, "margin": row.margin or None}  # a margin of 0 is not recorded
        if (found := setting(run.denoiser, "noise")) != plain(row.noise):
            raise Loose(f"trained at noise {found}, its row says {plain(row.noise)}")
    for key, value in said.items():
        if (found := setting(run.denoiser, "loss").get(key)) != value:
            raise Loose(f"trained with {key} {found}, its row says {value}")
    if row.protocol is not None:
        annotated = annotator(results, summary)
        role = "classifier" if annotated.manifest["inputs"].get("classifier") else "crops"
        spec = parent(results, annotated, role, "classifier").manifest["spec"]
        if (words := build(ClassifierSpec, spec, "spec").words()) != row.protocol:
            raise Loose(f"annotated by a classifier {words}, its row says {row.protocol}")


def annotator(results: Results, summary: Result) -> Result:
    """The annotation whose summary a row shows; of several combined the first."""
    return parent(results, summary, "annotations", "annotate") if summary.stage == "combine" else summary


def check_images(results: Results, run: Run, row: RowSpec, summary: Result) -> None:
    """Raise `Loose` unless a training is of the mixture and the annotations that its row says, and is scored
    against the dataset that the mixture was made from."""
    annotations = parent(results, run.denoiser, "annotations", "annotate", "combine")
    data = parent(results, run.denoiser, "data", "corrupt", "combine")
    outputs = summary.manifest.get("outputs", {}).values()
    made = [summary.key.parent / entry["path"] for entry in outputs]
    if annotations.key not in made:
        raise Loose(f"trained on {annotations.path}, its row shows the annotations of {summary.path}")
    if annotations.stage == "combine":
        if data.key not in made:
            raise Loose(f"trained on {data.path} with the annotations of other images")
    elif parent(results, annotations, "data", "corrupt") is not data:
        raise Loose(f"trained on {data.path}, which {annotations.path} does not annotate")
    check_latents(results, run, run.denoiser, data)
    check_told(results, run, run.denoiser)
    mixture = parent(results, annotations, "data", "corrupt")
    check_mixture(results, mixture, row)
    target = target_of(results, run)
    if parent(results, mixture, "data", "prepare") is not target:
        raise Loose(f"measured against {target.path}, which {mixture.path} was not made from")


def check_beside(results: Results, run: Run, usable: Sequence[Result], beside: Sequence[Result]) -> None:
    """Raise `Loose` unless what a table reads of a run beside its scores is of that run, too."""
    annotations = parent(results, run.denoiser, "annotations", "annotate", "combine")
    for one in usable:
        if one is not annotations:
            raise Loose(f"trained on {annotations.path}, its row counts the images of {one.path}")
    for one in beside:
        if parent(results, one, "samples", "sample") is not run.samples:
            raise Loose(f"{one.path} is of other samples than {run.scores.path}")


def check_mixture(results: Results, mixture: Result, row: RowSpec) -> None:
    """Raise `Loose` unless a mixture is of the dataset and corruption that a row says."""
    op, params = setting(mixture, "op"), setting(mixture, "params")
    if done := operation(op, params, mixture.path):
        for key, role, stage in ((done.ADDS, "added", "prepare"), (done.SCORED, "scores", "scores")):
            name = key and parent(results, mixture, role, stage).key.stem
            if name != (key and getattr(done, key)):
                raise Loose(f"{name} is read for {mixture.path}, its specification says {getattr(done, key)}")
        if done.SCORED and parent(results, parent(results, mixture, "scores", "scores"), "data", "prepare") \
                is not parent(results, mixture, "data", "prepare"):
            raise Loose(f"{mixture.path} is ranked by scores of other images")
        params = plain(done.columns())
    if (op, params) != (row.corruption, plain(row.parameters)):
        raise Loose(f"{mixture.path} is of {op} {params}, its row says {row.corruption} {row.parameters}")
    name = parent(results, mixture, "data", "prepare").key.stem
    for said in (row.dataset, row.reference):
        if said is not None and name != said:
            raise Loose(f"{mixture.path} is of {name}, its row says {said}")


def unequal(results: Results, runs: Sequence[Run], rows: Sequence[RowSpec]) -> Iterator[str]:
    """Rows of one dataset share the protocol of their scores, training seeds of one row all settings but the
    seed."""
    first: dict[tuple, Run] = {}
    for run in runs:
        one = first.setdefault(("protocol", rows[run.row].dataset), run)
        for what, kind, own, other in (
                ("sampler, seeds or number of samples", SamplingSpec, run.samples, one.samples),
                ("metric or detector", EvaluationSpec, run.scores, one.scores)):
            free = OF_ROW if kind is SamplingSpec and rows[run.row].drawn else {}
            if meaning(own.manifest["spec"], kind, **free) != meaning(other.manifest["spec"], kind, **free):
                yield f"{run} differs from {one} in {what}"
        for role in ("detector", "reference"):
            if parent(results, run.scores, role, role) is not parent(results, one.scores, role, role):
                yield f"{run} was scored with another {role} than {one}"
        one = first.setdefault(("training", run.row), run)
        if training_of(run.denoiser, seed=0) != training_of(one.denoiser, seed=0):
            yield f"{run} was trained with other settings than {one}"


def copied(results: Results, runs: Sequence[Run]) -> Iterator[str]:
    """Two trainings, two sets of samples or two score files of one content, where the work behind differs."""
    first: dict[str, Run] = {}
    for run in {(run.run_id, run.seed): run for run in runs}.values():  # a run may stand in several rows
        weights, samples, score = (first.setdefault(content(one), run)
                                   for one in (run.denoiser, run.samples, run.scores))
        if weights is not run and not (weights.seed == run.seed
                                       and same_work(results, weights.denoiser, run.denoiser)):
            yield f"{weights} and {run} have the same weights: one training, counted twice"
        elif samples is not run and content(samples.denoiser) != content(run.denoiser):
            yield f"{samples} and {run} have the same samples, of different weights"
        elif samples is not run and drawn_as(samples.samples) != drawn_as(run.samples):
            yield f"{samples} and {run} have the same samples, drawn in different ways"
        elif score is not run and content(score.samples) != content(run.samples):
            yield f"{score} and {run} have the same scores, of different samples"


def same_work(results: Results, one: Result, other: Result) -> bool:
    """Whether two trainings had to end in the same weights: equal settings, and equal images to learn from.

    Another mixture may hold the same usable images: the clean ones, where no corrupted one is ever used.
    """
    if training_of(one) != training_of(other):
        return False
    digests = [[[entry["sha256"] for entry in entries] for _, entries in sorted(o.manifest["inputs"].items())]
               for o in (one, other)]
    return digests[0] == digests[1] or usable(results, one) == usable(results, other)


def training_of(result: Result, **without: Any) -> dict:
    """How a denoiser was trained."""
    return meaning(result.manifest["spec"], TrainingSpec, **without)


def usable(results: Results, training: Result) -> list[tuple]:
    """(id, sigma_min, sigma_max) of each image that is used at any noise level."""
    import numpy as np

    from ambient.storage.files import read_arrays

    annotations = parent(results, training, "annotations", "annotate", "combine")
    if annotations.level < 1:
        return [annotations.key]  # pruned: nothing is known of it, so it equals no other
    arrays = read_arrays(annotations.key, ("ids", "sigma_min", "sigma_max"))
    used = np.isfinite(arrays["sigma_min"]) | (arrays["sigma_max"] > 0)
    return [tuple(values[used].tolist()) for _, values in sorted(arrays.items())]
