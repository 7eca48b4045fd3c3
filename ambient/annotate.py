r"""Stage: find each corrupted sample's sigma_min, the level from which it is usable.

Per sample (section 3.1): sigma_min_i = inf { sigma : E[c(w_sigma, sigma) | w_i] > tau },
tau = 0.5 - epsilon, with c = P(clean) of the noise classifier; the expectation is a mean over noise
draws, smoothed along sigma. For a whole set (equation 3.2) the mean also runs over the set.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ambient import randomness, ranks, stopping
from ambient.annotations import Annotations
from ambient.datasets import Dataset, read, to_float
from ambient.denoiser import NoiseClassifier, build_unet, read_description, read_weights
from ambient.files import read_arrays, write_arrays, write_json
from ambient.noise import lognormal
from ambient.progress import Progress
from ambient.runtime import State, autocast, device, identity
from ambient.spec import AnnotationSpec, ClassifierSpec
from ambient.strict import build

CHUNK = 64  # images annotated together
PASSES = 2**20  # of the network, about, that are saved together and lost together; at most 16 chunks


def grid(spec: AnnotationSpec) -> np.ndarray:
    """The noise levels asked, rising, float64 of shape (num_sigmas,)."""
    if spec.grid == "geometric":
        return np.geomspace(spec.sigma_low, spec.sigma_high, spec.num_sigmas)
    generator = randomness.torch_generator("cpu", "annotation-grid", spec.seed)
    draws = lognormal(spec.num_sigmas, spec.noise.P_mean, spec.noise.P_std, generator)
    return np.sort(draws.numpy())


def smooth(values: np.ndarray, span: int) -> np.ndarray:
    """Exponential smoothing along the last axis: y_0 = x_0, y_k = (1-w) y_(k-1) + w x_k.

    w = 2 / (span + 1). Not bias-corrected, as in the released protocol (span 32: w = 2/33).
    """
    weight = 2 / (span + 1)
    smoothed = np.array(values, dtype=np.float64)
    for k in range(1, smoothed.shape[-1]):
        smoothed[..., k] = (1 - weight) * smoothed[..., k - 1] + weight * smoothed[..., k]
    return smoothed


def first_crossing(sigmas: np.ndarray, p_corrupted: np.ndarray, epsilon: float, span: int,
                   never_crosses: str) -> np.ndarray:
    """The first level at which the smoothed P(corrupted) is below 0.5 + epsilon.

    `p_corrupted` (..., num_sigmas) is the mean over trials at rising `sigmas`. P(corrupted) < 0.5 +
    epsilon is P(clean) > tau = 0.5 - epsilon. Where it never happens: the last level, or infinity.
    """
    below = smooth(p_corrupted, span) < 0.5 + epsilon
    found = sigmas[below.argmax(axis=-1)]
    return np.where(below.any(axis=-1), found, sigmas[-1] if never_crosses == "last" else np.inf)


class Trajectories:
    """P(corrupted) of images along the grid."""

    def __init__(self, spec: AnnotationSpec, classifier: Path, where: torch.device) -> None:
        about = read_description(classifier)
        trained = build(ClassifierSpec, about["spec"], str(classifier))
        init = torch.Generator()  # of weights that are about to be replaced
        encoder = build_unet(trained.network, about["resolution"], about["channels"], 0,
                             bool(trained.augment.transforms), init, encoder_only=True)
        self.network = NoiseClassifier(encoder, init)
        self.network.load_state_dict(read_weights(classifier))
        self.network.to(where).eval()
        self.spec, self.where, self.sigmas = spec, where, grid(spec)
        levels, offsets = np.array(about["offsets"]).T  # of the classifier's recalibration
        self.offsets = np.interp(np.log(self.sigmas), np.log(levels), offsets)

    @torch.no_grad()
    def of(self, images: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """Mean P(corrupted) over trials, (N, num_sigmas) float32, for uint8 `images` (N, C, H, W).

        The noise of an image is drawn from (seed, level, id): its trajectory does not depend on the others.
        """
        x0 = torch.from_numpy(to_float(images)).to(self.where)
        trials, count = self.spec.num_trials, len(self.sigmas)
        p = np.empty((len(images), count), np.float32)
        for k, sigma in enumerate(self.sigmas):
            z = randomness.normal(f"annotation-{k}", self.spec.seed, ids, (trials, *x0.shape[1:]))
            noise = torch.from_numpy(z).to(self.where)  # (N, trials, C, H, W)
            x = (x0[:, None] + float(sigma) * noise).flatten(0, 1)
            level = torch.full((len(x),), float(sigma), device=self.where)
            with autocast(self.spec.precision, self.where):
                logits = self.network(x, level) + self.offsets[k]
            p[:, k] = torch.sigmoid(logits).reshape(len(images), trials).mean(1).cpu().numpy()
        return p


def classify(spec: AnnotationSpec, data: Dataset, classifier: Path, keep: State) -> tuple:
    """(sigmas, P(corrupted) of every corrupted image along them), from chunks that survive a kill."""
    trajectories = Trajectories(spec, classifier, device())
    rows = np.flatnonzero(data.corrupted)
    progress = Progress("annotate", len(rows))
    step = CHUNK * min(max(PASSES // (CHUNK * spec.num_sigmas * spec.num_trials), 1), 16)
    for number, first in enumerate(range(0, len(rows), step)):
        shard = keep.folder / f"trajectories-{first}.safetensors"
        if number % ranks.size() == ranks.rank() and not shard.exists():
            if why := stopping.reason():
                stopping.leave(f"annotate: stopped after {first:,} images ({why}), shards saved")
            chunks = np.split(rows[first:first + step], range(CHUNK, min(step, len(rows) - first), CHUNK))
            p = [trajectories.of(data.images[chunk], data.ids[chunk]) for chunk in chunks]
            write_arrays(shard, {"p": np.concatenate(p)})
            progress.update(min(first + step, len(rows)))
    ranks.barrier()
    parts = [read_arrays(keep.folder / f"trajectories-{first}.safetensors")["p"]
             for first in range(0, len(rows), step)]
    return trajectories.sigmas, np.concatenate(parts)


def main(spec: AnnotationSpec, record, *, data: Path, classifier: Path | None, state: Path,
         out: Path, summary: Path) -> None:
    """`out` gets the annotation table of the mixture (clean samples: 0), `summary` its statistics."""
    mixture = read(data)
    if mixture.corrupted is None:
        raise ValueError(f"{data}: not a mixture, it says of no image whether it is corrupted")
    corrupted = mixture.corrupted == 1
    sigma_min = np.zeros(len(mixture.ids))
    if spec.method == "clean":
        sigma_min[corrupted] = np.inf
    elif spec.method == "fixed":
        sigma_min[corrupted] = spec.sigma_min
    elif classifier is None:
        raise ValueError(f"annotation method {spec.method} needs --classifier")
    else:
        keep = State(state, identity("ambient.annotate", spec, data, classifier))
        sigmas, p = classify(spec, mixture, classifier, keep)
        if spec.method == "population":
            p = p.mean(axis=0, keepdims=True)
        sigma_min[corrupted] = first_crossing(sigmas, p.astype(np.float64), spec.epsilon,
                                              spec.smoothing_span, spec.never_crosses)
    ranks.barrier()  # the shards are read: the first rank may remove them
    if not ranks.first():
        return
    Annotations(mixture.ids, sigma_min, np.zeros_like(sigma_min)).write(out)
    write_json(summary, statistics(sigma_min, corrupted))
    record.facts |= {"samples": len(sigma_min), "corrupted": int(corrupted.sum())}
    if spec.method in ("population", "per_sample"):
        keep.remove()


def statistics(sigma_min: np.ndarray, corrupted: np.ndarray) -> dict:
    """Counts, and mean and quartiles of sigma_min over the corrupted samples that are ever used."""
    used = sigma_min[corrupted & np.isfinite(sigma_min)]
    found = {"samples": len(sigma_min), "corrupted": int(corrupted.sum()), "used": len(used)}
    if len(used):
        found |= {"sigma_min_mean": float(used.mean()),
                  "sigma_min_quartiles": np.quantile(used, [0, 0.25, 0.5, 0.75, 1]).tolist()}
    return found


if __name__ == "__main__":
    from ambient import stage

    stage.run(main, AnnotationSpec, inputs=("data", "classifier"), outputs=("out", "summary"),
              optional=("classifier",), options=("state",))
