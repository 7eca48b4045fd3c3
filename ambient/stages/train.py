"""Stage: train a diffusion model on a mixture, each sample at the noise levels its annotation allows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

from torch import Tensor

from ambient.data import text_states
from ambient.data.annotations import Annotations
from ambient.data.datasets import Dataset, read
from ambient.data.text_states import Told
from ambient.diffusion import randomness
from ambient.jobs import launch, ranks, stopping
from ambient.jobs.state import State
from ambient.jobs.stopping import patiently
from ambient.specs import OptimiserSpec, TrainingSpec
from ambient.specs.strict import plain
from ambient.storage.files import write_text
from ambient.training import phases
from ambient.training.batches import AmbientBatches, check, classes
from ambient.training.build import build_denoiser
from ambient.training.hardware import compile_for, device
from ambient.training.loop import Begin, fit
from ambient.training.points import Points
from ambient.training.weights import join_weights, not_finite, snapshot

END = "end"  # the piece of the state that a phase leaves for the next


def named(nimg: int, averages: list[dict[str, Tensor]], spec: OptimiserSpec,
          weights: Collection[str]) -> dict[str, Tensor]:
    """The averages of a snapshot as they are called and kept in the file; `weights`: the names of all that is
    averaged, beside which there are buffers.

    Raises `ValueError` for a weight that has no place in float16.
    """
    prefixes = [snapshot(nimg), *(snapshot(nimg, std) for std in spec.ema_stds[1:])]
    half = set(weights) if spec.snapshot_precision == "float16" else set()
    found = {prefix + name: tensor.half() if name in half else tensor
             for prefix, average in zip(prefixes, averages, strict=True) for name, tensor in average.items()}
    if half and (bad := not_finite(found)):
        raise ValueError(f"snapshot_precision: float16 holds nothing beyond 65504 ({bad}): set float32")
    return found


def told_of(spec: TrainingSpec, mixture: Dataset, texts: Sequence[Path]) -> Told | None:
    """The states of the images' captions; None where the network is not told them.

    Raises `ValueError` where they are not given, or are wider than the network's.
    """
    if spec.told_captions != bool(texts):
        raise ValueError(f"--texts: {len(texts)} files, allowed: "
                         + ("one or more, since the network is told captions" if spec.told_captions else
                            "none, since the network is told no captions"))
    told = text_states.told(mixture.captions, texts) if texts else None
    if told is not None and told.shape[1] != spec.network.caption_channels:
        raise ValueError(f"{texts[0]}: states have {told.shape[1]} channels, network.caption_channels is "
                         f"{spec.network.caption_channels}")
    return told


def beginning(spec: TrainingSpec, start: Path | None) -> Begin | None:
    """What puts the weights of the phase before into a training; None where it begins with its own."""
    if (spec.start is None) != (start is None):
        raise ValueError(f"--start: got {start}, allowed: " + (
            "none: the specification has no start" if spec.start is None else
            f"the weights of the phase before, with the snapshot at nimg {spec.start.nimg}"))
    return None if start is None else partial(phases.begin, start, spec.start)


def main(spec: TrainingSpec, record, *, data: Path, annotations: Path, state: State,
         out: Path, log: Path, latents: Sequence[Path] = (), texts: Sequence[Path] = (),
         start: Path | None = None) -> None:
    """Train; `out` gets the averaged weights at every snapshot, as `<nimg>/<parameter>`.

    `texts`: the states of the images' captions, where the network is told them. `start`: the weights of the
    phase that this training begins from.

    Where several widths are averaged, those after the first are `<nimg>-ema-<width>/<parameter>`.
    """
    mixture = read(data)
    check(spec, mixture)
    where, points = device(), Points(mixture, latents)
    channels, resolution, _ = points.shape
    denoiser = build_denoiser(spec, resolution, channels, mixture.num_classes,
                              randomness.torch_generator("cpu", "init", spec.seed)).to(where)
    compile_for(denoiser.model, spec.optimiser.nimg // spec.optimiser.batch)
    rows, told = Annotations.read(annotations), told_of(spec, mixture, texts)
    batches = AmbientBatches(spec, mixture, points, rows, denoiser, where, told)
    weights = {name for name, _ in denoiser.named_parameters()}
    losses = fit("train", denoiser, spec.optimiser, batches.loss, state, spec.snapshots,
                 lambda nimg, averages: state.put(f"snapshot-{nimg}",
                                                  named(nimg, averages, spec.optimiser, weights)),
                 shard=stopping.setting(launch.SHARD) > 0,
                 begin=beginning(spec, start),
                 at_end=(lambda tensors: state.put(END, phases.left(tensors))) if spec.keep_state else None)
    if not ranks.first():
        return
    pieces = [*(f"snapshot-{nimg}" for nimg in spec.snapshots), *([END] if spec.keep_state else [])]
    patiently(join_weights, out, [state.whole(piece)[0] for piece in pieces], {
        "spec": plain(spec), "resolution": resolution, "channels": channels,
        "num_classes": mixture.num_classes, "classes": classes(mixture, rows)}
        | ({"encoded": True} if points.encoded else {}) | ({"text": list(told.shape)} if told else {}))
    patiently(write_text, log, "".join(line + "\n" for line in losses))
    record.facts |= {"images_seen": spec.optimiser.nimg, "image": [resolution, channels],
                     "classes": classes(mixture, rows),
                     "parameters": sum(p.numel() for p in denoiser.model.parameters())} | state.history()
