"""Stage: train the noise classifier of equation 3.1 on a mixture.

With `crop` it is the crops classifier of section 3.2: it sees a square at a random place of each image,
zeros elsewhere, and learns which of the two distributions it came from.

It learns P(corrupted | x_sigma, sigma) from the mixture alone, in which the clean versions of corrupted
images do not exist: a leak-free protocol, unless the specification names the leaky one, whose mixture
has a clean fraction of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ambient.annotation.batches import ClassifierBatches
from ambient.annotation.classifier import NoiseClassifier
from ambient.annotation.statistics import WEAK_ACCURACY, best_level
from ambient.data.datasets import read
from ambient.diffusion import randomness
from ambient.jobs import ranks
from ambient.jobs.state import State
from ambient.jobs.stopping import patiently, say
from ambient.specs import ClassifierSpec
from ambient.specs.strict import plain
from ambient.storage.files import write_json
from ambient.training.build import build_network
from ambient.training.hardware import compile_for, device
from ambient.training.loop import fit
from ambient.training.points import Points
from ambient.training.weights import save_weights


def marks(spec: ClassifierSpec) -> tuple[int, ...]:
    """Images seen at each held-out evaluation: evenly spaced, the last at the end."""
    batch, total = spec.optimiser.batch, spec.optimiser.nimg
    steps = total // batch
    return tuple(sorted({max(steps * (i + 1) // spec.evaluations, 1) * batch
                         for i in range(spec.evaluations)}))


def verdict(report: dict) -> str:
    """How well held-out images were told apart, for the log, with a warning where that failed.

    A classifier that can't tell them apart at any level finds no sigma_min: what it gives is noise.
    """
    best = best_level(report["levels"])
    line = (f"classifier: kept after {report['nimg']:,} images; held-out accuracy "
            f"{best['accuracy']:.2f} at sigma {best['sigma']:.2g}, the most of any level")
    if best["accuracy"] < WEAK_ACCURACY:
        line += (f"\nclassifier: WARNING: below {WEAK_ACCURACY}: sigma_min will mean little. More clean "
                 "images (clean_fraction), a stronger corruption, or more augmentation may help")
    return line


def main(spec: ClassifierSpec, record, *, data: Path, state: State, out: Path,
         calibration: Path, latents: Sequence[Path] = ()) -> None:
    """Train; `out` gets the selected EMA weights, `calibration` the held-out report (JSON)."""
    mixture, where = read(data), device()
    points = Points(mixture, latents)
    channels, resolution, _ = points.shape
    init = randomness.torch_generator("cpu", "init", spec.seed)
    encoder = build_network(spec.network, resolution, channels, 0, bool(spec.augment.transforms), init,
                         encoder_only=True)
    network = NoiseClassifier(encoder, init).to(where)
    compile_for(encoder, spec.optimiser.nimg // spec.optimiser.batch)
    batches = ClassifierBatches(spec, mixture, points, network, where)

    def evaluate(nimg: int, averages: list[dict[str, Tensor]]) -> None:
        (weights,) = averages
        levels = batches.calibration(weights)
        score = sum(level["weight"] * level["cross_entropy"] for level in levels)
        state.put(f"weights-{nimg}", weights, {"nimg": nimg, "cross_entropy": score, "levels": levels})

    fit("classifier", network, spec.optimiser, batches.loss, state, marks(spec), evaluate, piece="weights")
    if not ranks.first():
        return
    reports = [state.whole(f"weights-{nimg}")[1] for nimg in marks(spec)]
    chosen = reports[-1]
    if spec.select == "best":
        chosen = min(reports, key=lambda report: report["cross_entropy"])
    say(verdict(chosen))
    patiently(write_json, calibration, {
        "chosen_nimg": chosen["nimg"], "levels": chosen["levels"],
        "held_out": {kind: spec.held_out_draws(len(rows))[0]
                     for kind, rows in zip(("clean", "corrupted"), batches.split.held_out, strict=True)},
        "history": [{k: r[k] for k in ("nimg", "cross_entropy")} for r in reports]})
    patiently(save_weights, out, state.get(f"weights-{chosen['nimg']}")[0],
              {"spec": plain(spec), "resolution": resolution, "channels": channels,
               "offsets": [[level["sigma"], level["offset"]] for level in chosen["levels"]]})
    record.facts |= {"images_seen": spec.optimiser.nimg, "chosen_nimg": chosen["nimg"],
                     "protocol": spec.protocol,
                     "parameters": sum(p.numel() for p in network.parameters())} | state.history()
