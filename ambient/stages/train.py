"""Stage: train a diffusion model on a mixture, each sample at the noise levels its annotation allows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ambient.data.annotations import Annotations
from ambient.data.datasets import read
from ambient.diffusion import randomness
from ambient.jobs import launch, ranks, stopping
from ambient.jobs.state import State
from ambient.jobs.stopping import patiently
from ambient.specs import OptimiserSpec, TrainingSpec
from ambient.specs.strict import plain
from ambient.storage.files import write_text
from ambient.training.batches import AmbientBatches, check, classes
from ambient.training.build import build_denoiser
from ambient.training.hardware import compile_for, device
from ambient.training.loop import fit
from ambient.training.points import Points
from ambient.training.weights import save_weights, snapshot


def named(nimg: int, averages: list[dict[str, Tensor]], spec: OptimiserSpec) -> dict[str, Tensor]:
    """The averages of a snapshot as they are called in the file."""
    prefixes = [snapshot(nimg), *(snapshot(nimg, std) for std in spec.ema_stds[1:])]
    return {prefix + name: tensor for prefix, average in zip(prefixes, averages, strict=True)
            for name, tensor in average.items()}


def main(spec: TrainingSpec, record, *, data: Path, annotations: Path, state: State,
         out: Path, log: Path, latents: Sequence[Path] = ()) -> None:
    """Train; `out` gets the averaged weights at every snapshot, as `<nimg>/<parameter>`.

    Where several widths are averaged, those after the first are `<nimg>-ema-<width>/<parameter>`.
    """
    mixture = read(data)
    check(spec, mixture)
    where, points = device(), Points(mixture, latents)
    channels, resolution, _ = points.shape
    denoiser = build_denoiser(spec, resolution, channels, mixture.num_classes,
                              randomness.torch_generator("cpu", "init", spec.seed)).to(where)
    compile_for(denoiser.model, spec.optimiser.nimg // spec.optimiser.batch)
    rows = Annotations.read(annotations)
    batches = AmbientBatches(spec, mixture, points, rows, denoiser, where)
    losses = fit("train", denoiser, spec.optimiser, batches.loss, state, spec.snapshots,
                 lambda nimg, averages: state.put(f"snapshot-{nimg}", named(nimg, averages, spec.optimiser)),
                 shard=stopping.setting(launch.SHARD) > 0)
    if not ranks.first():
        return
    tensors = {name: tensor for nimg in spec.snapshots
               for name, tensor in state.get(f"snapshot-{nimg}")[0].items()}
    patiently(save_weights, out, tensors, {
        "spec": plain(spec), "resolution": resolution, "channels": channels,
        "num_classes": mixture.num_classes, "classes": classes(mixture, rows)}
        | ({"encoded": True} if points.encoded else {}))
    patiently(write_text, log, "".join(line + "\n" for line in losses))
    record.facts |= {"images_seen": spec.optimiser.nimg, "image": [resolution, channels],
                     "classes": classes(mixture, rows),
                     "parameters": sum(p.numel() for p in denoiser.model.parameters())} | state.history()
