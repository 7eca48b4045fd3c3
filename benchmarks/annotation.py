"""`python -m benchmarks.annotation`: shared noise against the dense protocol, and that against itself.

On digits at three strengths of blur, each with a classifier trained here as in the demo. Writes
benchmarks/annotation.md: agreement of sigma_min, evaluations of the classifier and seconds an image.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from ambient.annotation.classifier import Classifier
from ambient.annotation.trajectories import PROTOCOLS
from ambient.data.datasets import read
from ambient.jobs.identity import Identity
from ambient.jobs.stage import Record
from ambient.jobs.state import State
from ambient.settings import Experiments
from ambient.specs import AnnotationSpec
from ambient.stages import classifier, corrupt, prepare
from ambient.training.hardware import device

LEVELS = ("blur-0.6", "blur-0.8", "blur-1.0")
HEAD = ("| images | compared with the dense protocol | Spearman | mean abs. ln ratio | mean ln ratio "
        "| evaluations an image | seconds an image |\n|---|---|---|---|---|---|---|")


def trained(corruption: str, folder: Path) -> tuple[Path, Path]:
    """(mixture, classifier) of the demo, with another strength of blur."""
    found = Experiments("config", "demo")
    study = found.study("controlled")
    data, mixture, weights = (folder / f"{name}.safetensors" for name in
                              ("data", f"mixture-{corruption}", f"classifier-{corruption}"))
    if not data.exists():
        prepare.main(found.dataset(study["dataset"]), Record(), raw=None,
                     state=State(folder / "prepare", Identity("benchmark", {})), out=data)
    corrupt.main(found.mixture("controlled", corruption, found.fraction("controlled")), Record(),
                 data=data, added=None, state=State(folder / f"state-{corruption}", Identity("mixture", {})),
                 out=mixture)
    classifier.main(found.classifier("controlled", "balanced"), Record(), data=mixture,
                    state=State(folder / "state", Identity("benchmark", {})), out=weights,
                    calibration=folder / "calibration.json")
    return mixture, weights


def protocols(count: int) -> dict[str, AnnotationSpec]:
    """The dense protocol of the paper's scale, again with another seed, and shared noise."""
    paper = replace(Experiments("config", "paper").annotation("controlled", "per-sample"),
                    protocol="dense", precision="bfloat16")
    levels = PROTOCOLS["dense"](paper, None, device()).sigmas
    shared = replace(paper, protocol="shared_noise", grid="geometric", sigma_low=float(levels[0]),
                     sigma_high=float(levels[-1]), num_sigmas=32, num_trials=2,
                     reference_draws=max(count // 2, 1))
    return {"dense": paper, "dense, another seed": replace(paper, seed=paper.seed + 1),
            "shared noise": shared}


def evaluations(spec: AnnotationSpec, count: int) -> float:
    """How often the classifier is asked, for each of `count` images."""
    own = spec.num_sigmas * spec.num_trials
    return own + (spec.num_sigmas * spec.reference_draws / count if spec.protocol != "dense" else 0)


def agreement(found: np.ndarray, dense: np.ndarray) -> tuple[float, float, float]:
    """Spearman's correlation, mean |ln ratio| and mean ln ratio."""
    ratio = np.log(found / dense)
    return spearmanr(found, dense)[0], np.abs(ratio).mean(), ratio.mean()


def cells(found: np.ndarray, dense: np.ndarray) -> str:
    """Three cells of the table."""
    rank, apart, shift = agreement(found, dense)
    return f"{rank:.3f} | {apart:.3f} | {shift:+.3f}"


def ceiling(again: np.ndarray, dense: np.ndarray) -> str:
    """How well an estimate with no error of its own would agree with one dense run, from two of them.

    Equal and independent errors of two runs: the correlation of one with the truth is the root of theirs with
    each other (Spearman's attenuation), and its distance from it theirs over sqrt(2).
    """
    rank, apart, _ = agreement(again, dense)
    return ("By how little two dense runs agree, an estimate without any error would reach "
            f"{rank**0.5:.2f} and {apart / 2**0.5:.2f} against one of them.\n")


def main() -> None:
    """Train, annotate with each protocol, compare, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.annotation", description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/annotation.md"))
    given = parser.parse_args()
    lines, every = [], {}
    with tempfile.TemporaryDirectory() as name:
        for corruption in LEVELS:
            mixture, weights = trained(corruption, Path(name))
            data = read(mixture)
            rows = np.flatnonzero(data.corrupted)[:given.images]
            images, ids, found = data.images[rows], data.ids[rows], {}
            for label, spec in protocols(len(rows)).items():
                asked = PROTOCOLS[spec.protocol](spec, Classifier(weights, device()), device())
                began = time.perf_counter()
                found[label] = asked.crossing(asked.curves(asked.of(images, ids), images))
                spent = (time.perf_counter() - began) / len(rows)
                every.setdefault(label, []).append(found[label])
                if label != "dense":
                    lines.append(f"| {corruption} | {label} | {cells(found[label], found['dense'])} "
                                 f"| {evaluations(spec, len(rows)):.0f} | {spent:.4f} |")
                    print(lines[-1], flush=True)
    together = {label: np.concatenate(parts) for label, parts in every.items()}
    for label in list(together)[1:]:
        lines.append(f"| all | {label} | {cells(together[label], together['dense'])} | | |")
    given.out.write_text(
        f"# Annotation: agreement of sigma_min\n\nWritten by `python -m benchmarks.annotation --images "
        f"{given.images}` ({torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads). "
        "The dense protocol asks 2,048 x 4 times.\n\n" + "\n".join([HEAD, *lines, ""])
        + "\n" + ceiling(together["dense, another seed"], together["dense"]))
    print(f"wrote {given.out}")


if __name__ == "__main__":
    main()
