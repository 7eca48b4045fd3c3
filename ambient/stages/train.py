"""Stage: train a diffusion model on a mixture, each sample at the noise levels its annotation allows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ambient.data.annotations import Annotations
from ambient.data.datasets import read
from ambient.diffusion import randomness
from ambient.diffusion.denoiser import Denoiser
from ambient.jobs import ranks
from ambient.jobs.state import State
from ambient.jobs.stopping import patiently
from ambient.specs import TrainingSpec
from ambient.specs.strict import plain
from ambient.storage.files import write_text
from ambient.training.batches import AmbientBatches, check, classes
from ambient.training.build import build_network
from ambient.training.hardware import compile_for, device
from ambient.training.loop import fit
from ambient.training.points import Points
from ambient.training.weights import save_weights


def main(spec: TrainingSpec, record, *, data: Path, annotations: Path, state: State,
         out: Path, log: Path, latents: Sequence[Path] = ()) -> None:
    """Train; `out` gets the EMA weights at every snapshot, as `<nimg>/<parameter>`."""
    mixture = read(data)
    check(spec, mixture)
    where, points = device(), Points(mixture, latents)
    channels, resolution, _ = points.shape
    network = build_network(spec.network, resolution, channels, mixture.num_classes,
                         bool(spec.augment.transforms),
                         randomness.torch_generator("cpu", "init", spec.seed))
    denoiser = Denoiser(network, spec.sigma_data).to(where)
    compile_for(network, spec.optimiser.nimg // spec.optimiser.batch)
    rows = Annotations.read(annotations)
    batches = AmbientBatches(spec, mixture, points, rows, denoiser, where)
    losses = fit("train", denoiser, spec.optimiser, batches.loss, state, spec.snapshots,
                 lambda nimg, weights: state.put(f"snapshot-{nimg}", weights))
    if not ranks.first():
        return
    tensors = {f"{nimg}/{name}": tensor for nimg in spec.snapshots
               for name, tensor in state.get(f"snapshot-{nimg}")[0].items()}
    patiently(save_weights, out, tensors, {
        "spec": plain(spec), "resolution": resolution, "channels": channels,
        "num_classes": mixture.num_classes, "classes": classes(mixture, rows)}
        | ({"encoded": True} if points.encoded else {}))
    patiently(write_text, log, "".join(line + "\n" for line in losses))
    record.facts |= {"images_seen": spec.optimiser.nimg, "image": [resolution, channels],
                     "classes": classes(mixture, rows),
                     "parameters": sum(p.numel() for p in network.parameters())} | state.history()
