"""Samples are bound to what they were drawn from: the width, the guide, the latents and their encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ambient.audit.traces import Loose, Results, guide_of, meaning, parent, parents, setting
from ambient.audit.words import Result
from ambient.specs import DrawnSpec, RowSpec, SamplingSpec
from ambient.specs.data import operation
from ambient.specs.strict import build, plain

if TYPE_CHECKING:
    from ambient.audit.bind import Run

OF_ROW = {"ema_std": None, "guidance": 1.0, "guide": None}  # of sampling, where a table's rows differ in it


def check_drawn(results: Results, run: Run, row: RowSpec) -> None:
    """Raise `Loose` unless samples are of the width, guidance and guide that their row says, and the guide
    has learnt from images of the dataset that they are scored against."""
    guide = guide_of(results, run.samples)
    if row.drawn is not None:
        spec = build(SamplingSpec, run.samples.manifest["spec"], "spec")
        name = guide and guide.key.parent.parent.name
        drawn = DrawnSpec(spec.ema_std, spec.guidance, name, spec.nfe + spec.guide_nfe)
        if drawn != row.drawn:
            raise Loose(f"{run.samples.path} is drawn with {plain(drawn)}, its row says {plain(row.drawn)}")
    if guide is not None:
        data, target = parent(results, guide, "data", "corrupt", "combine"), target_of(results, run)
        check_latents(results, run, guide, data)
        for mixture in mixtures_of(results, data):
            if parent(results, mixture, "data", "prepare") is not target:
                raise Loose(f"guided by {guide.path}, which has not learnt from {target.path}")


def target_of(results: Results, run: Run) -> Result:
    """The images that the samples of a run are held against."""
    return parent(results, parent(results, run.scores, "reference", "reference"), "data", "prepare")


def mixtures_of(results: Results, data: Result) -> list[Result]:
    """The mixtures that a training's data are made of."""
    return parents(results, data, "data", "corrupt") if data.stage == "combine" else [data]


def check_latents(results: Results, run: Run, training: Result, data: Result) -> None:
    """Raise `Loose` unless the latents of a training are of its own images, and the samples of a run decoded
    as they were encoded."""
    mixtures = mixtures_of(results, data)
    encoded = parents(results, training, "latents", "encode")
    coders = parents(results, run.samples, "encoder", "encoder")
    given = any(is_given(one) for one in encoded)
    for one in encoded:
        source = parent(results, one, "data", "corrupt", "prepare")
        if is_given(one):
            check_folder(one, parent(results, source, "added", "prepare"))
        if source not in mixtures and not all(
                parent(results, mixture, "data", "prepare") is source if given else
                is_of(results, mixture, source) for mixture in mixtures):
            raise Loose(f"trained on {one.path}, which are latents of other images than {data.path}")
        if [parent(results, one, "encoder", "encoder")] != coders:
            raise Loose(f"trained on {one.path}, of another encoder than {run.samples.path} was decoded by")
    if coders and not encoded:
        raise Loose(f"{run.samples.path} was decoded, and {training.path} was trained on pixels")


def is_given(encoded: Result) -> bool:
    """Whether latents or states were made elsewhere, and read."""
    return bool(encoded.manifest["spec"].get("precomputed"))


def check_folder(encoded: Result, dataset: Result) -> None:
    """Raise `Loose` unless latents or states come from the folder that their dataset was prepared from."""
    ours, its = ([one["sha256"] for one in result.manifest["external"]] for result in (encoded, dataset))
    if ours != its:
        raise Loose(f"{encoded.path} was read from another folder than {dataset.path}")


def check_told(results: Results, run: Run, training: Result) -> None:
    """Raise `Loose` unless samples are told captions by the text encoder that a training was, and the states
    are those of the captions that they are of."""
    learnt, told = (parents(results, one, "texts", "texts") for one in (training, run.samples))
    coders = {parent(results, one, "text_encoder", "text_encoder").path for one in [*learnt, *told]}
    if bool(learnt) != bool(told) or len(coders) > 1:
        raise Loose(f"{training.path} and {run.samples.path} are told captions by {sorted(coders)}, with "
                    f"{len(learnt)} and {len(told)} files of states")
    for one in filter(is_given, [*learnt, *told]):
        check_folder(one, parent(results, one, "data", "prepare"))
    for one in told:
        if parent(results, one, "data", "prepare") is not parent(results, run.samples, "captions", "prepare"):
            raise Loose(f"{run.samples.path} are of captions whose states are not those of {one.path}")


def is_of(results: Results, mixture: Result, dataset: Result) -> bool:
    """Whether all images of a mixture are a dataset's own, as they are."""
    if parent(results, mixture, "data", "prepare") is not dataset:
        return False
    done = operation(setting(mixture, "op"), setting(mixture, "params"), mixture.path)
    if done is not None:
        return done.KEEPS
    return setting(mixture, "op") is None and setting(mixture, "clean_fraction") == 1


def drawn_as(samples: Result) -> dict:
    """How samples were drawn."""
    return meaning(samples.manifest["spec"], SamplingSpec)
