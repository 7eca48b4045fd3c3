"""`python -m benchmarks.detectors`: how detectors rank sets of images whose order is known.

Detectors learn from a part of a dataset. Images of the other part are corrupted more and more, mixed with
another kind, and repeated. The distance of each set to the images learnt from is held against the floor,
which is that of the untouched ones. Writes benchmarks/detectors.md.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau

from ambient.data.corruptions import corrupt, label
from ambient.data.datasets import Dataset, read, to_float, to_uint8, write
from ambient.diffusion import randomness
from ambient.evaluation.features import extract
from ambient.evaluation.frechet import frechet_distance, moments
from ambient.jobs.identity import Identity
from ambient.jobs.stage import Record
from ambient.jobs.state import State
from ambient.settings import Experiments
from ambient.specs import DatasetSpec, DetectorSpec
from ambient.stages import detector, prepare

GROWING = [("gaussian_blur", "sigma_px", (0.5, 0.7, 1.0)), ("jpeg", "quality", (50, 15, 7)),
           ("additive_noise", "std", (0.05, 0.1, 0.2)), ("random_mask", "prob", (0.02, 0.05, 0.15))]
SHARES, REPEATED = (0.1, 0.25, 0.5, 1.0), (2, 4, 10)
TOGETHER = (1, 2, 4)  # members of which the spread between disjoint groups is measured


def corrupted(images: np.ndarray, op: str, params: dict) -> np.ndarray:
    """All images, uint8 (N, C, H, H), under a corruption."""
    worse = [corrupt(image, randomness.numpy_generator("benchmark", k), op, params)
             for k, image in enumerate(to_float(images))]
    return to_uint8(np.stack(worse))


def families(good: np.ndarray, other: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """What grows -> the sets of images along it, as many in each as there are good ones."""
    count = len(good)
    found = {op: {label(op, {key: value}): corrupted(good, op, {key: value}) for value in values}
             for op, key, values in GROWING}
    found["other kind"] = {f"{share:.0%} of another kind": np.concatenate(
        [good[round(share * count):], other[:round(share * count)]]) for share in SHARES}
    found["repeated"] = {f"1 of {times}, {times} times": np.tile(good[:count // times], (times, 1, 1, 1))
                         for times in REPEATED}
    return found


class Measured:
    """The features of all sets by all members of one detector, and distances by some of the members."""

    def __init__(self, spec: DetectorSpec, weights: Path, learnt: np.ndarray,
                 sets: dict[str, np.ndarray]) -> None:
        self.members = spec.members
        self.learnt = self.of(spec, weights, learnt)
        self.sets = {name: self.of(spec, weights, images) for name, images in sets.items()}

    def of(self, spec: DetectorSpec, weights: Path, images: np.ndarray) -> np.ndarray:
        """(N, members, features), each as it is where the member is alone."""
        found = extract(spec, weights, images).reshape(len(images), spec.members, -1)
        return found * spec.members**0.5

    def ratios(self, some: slice) -> np.ndarray:
        """Distances of all sets by these members, over that of the first set."""
        def known(features: np.ndarray) -> np.ndarray:
            part = features[:, some]
            return part.reshape(len(part), -1) / part.shape[1]**0.5

        target = moments(known(self.learnt))
        values = np.array([frechet_distance(moments(known(one)), target) for one in self.sets.values()])
        return values / values[0]

    def spread(self, together: int) -> float:
        """Mean over sets of the standard deviation of ln(distance / floor) over disjoint groups."""
        groups = [self.ratios(slice(first, first + together))
                  for first in range(0, self.members, together)]
        return float(np.log(groups)[:, 1:].std(axis=0, ddof=1).mean())


def measured(spec: DetectorSpec, data: Dataset, blurred: float, folder: Path,
             sets: dict[str, np.ndarray]) -> Measured:
    """Train a detector on images, and take its features of them and of all sets.

    A share of the images that it learns from is blurred; those that sets are compared with are not.
    """
    file, weights, record = folder / "data", folder / "weights", Record()
    count = round(blurred * len(data.images))
    bad = [corrupted(data.images[:count], "gaussian_blur", {"sigma_px": 0.7})] if count else []
    write(file, replace(data, images=np.concatenate([*bad, data.images[count:]])))
    detector.main(spec, record, data=file, weights=None, out=weights,
                  state=State(folder / f"state-{spec.kind}", Identity("benchmark", {})))
    print(spec.kind, record.facts.get("accuracy"), flush=True)
    return Measured(spec, weights, data.images, sets)


def violations(ratios: Iterable[float], sizes: list[int]) -> int:
    """How often a set is nearer than the one before it in its family, which begins at the floor."""
    ratios, wrong, first = list(ratios), 0, 1
    for size in sizes:
        family = [ratios[0], *ratios[first:first + size]]
        wrong += sum(after < before for before, after in zip(family, family[1:], strict=False))
        first += size
    return wrong


def text(found: dict[str, Measured], sizes: list[int], command: str) -> str:
    """The page: distances over the floor, and what they are worth."""
    ratios = {name: one.ratios(slice(None)) for name, one in found.items()}
    lines = ["# Detectors: distances of sets whose order is known", "",
             f"Written by `{command}`. Each number is a distance over that of as many untouched images that "
             "the detector never saw (the floor).", "",
             f"| images | {' | '.join(found)} |", "|---|" + "---|" * len(found)]
    names = list(next(iter(found.values())).sets)
    lines += [f"| {name} | " + " | ".join(f"{one[k]:.2f}" for one in ratios.values()) + " |"
              for k, name in enumerate(names)]
    lines += ["", f"| | {' | '.join(found)} |", "|---|" + "---|" * len(found)]
    wrong = [str(violations(one, sizes)) for one in ratios.values()]
    rows = {f"pairs in the wrong order, of {sum(sizes)}": wrong}
    for together in TOGETHER:
        rows[f"spread of ln(distance / floor), members: {together}"] = [
            f"{one.spread(together):.2f}" if one.members >= 2 * together else "" for one in found.values()]
    first = next(iter(ratios.values()))
    rows["Kendall's tau with the first"] = [f"{kendalltau(first, one)[0]:.2f}" for one in ratios.values()]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Prepare, train, measure, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detectors", description=__doc__)
    parser.add_argument("--images", help="an EDM-format zip in the place of the demo's digits")
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--classes", type=int, nargs="+", default=[0, 1, 2, 3, 4, 5, 6], help="good ones")
    parser.add_argument("--learnt", type=int, default=1000, help="images that detectors learn from")
    parser.add_argument("--blurred", type=float, default=0.0, help="share of these that is blurred by 0.7 px")
    parser.add_argument("--sets", type=int, default=300, help="images of a set")
    parser.add_argument("--detectors", nargs="+", default=["digitnet", "selfnet"])
    parser.add_argument("--members", type=int, default=8, help="networks of each detector")
    parser.add_argument("--nimg", type=int, help="images seen in training, for each detector")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/detectors.md"))
    given = parser.parse_args()
    found = Experiments("config", "demo")
    source = found.dataset("digits") if given.images is None else DatasetSpec(
        source="images", path=given.images, resolution=given.resolution, channels=3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raw = None if given.images is None else Path(given.images)
        prepare.main(replace(source, path=None), Record(), raw=raw,
                     state=State(folder / "state", Identity("benchmark", {})), out=folder / "all")
        data = read(folder / "all")
        order = randomness.numpy_generator("benchmark").permutation(len(data.images))
        good, other = (order[np.isin(data.labels[order], given.classes) == own] for own in (True, False))
        learnt, held = np.sort(good[:given.learnt]), good[given.learnt:given.learnt + given.sets]
        family = families(data.images[held], data.images[other[:given.sets]])
        sets = {"untouched": data.images[held]} | {k: v for one in family.values() for k, v in one.items()}
        known = Dataset(data.images[learnt], data.labels[learnt], data.ids[learnt])
        results = {}
        for one in given.detectors:
            spec = replace(found.portable_detector(one), members=given.members)
            results[f"fd-{one}"] = measured(replace(spec, nimg=given.nimg or spec.nimg), known,
                                              given.blurred, folder, sets)
    command = "python -m benchmarks.detectors" + "".join(
        f" --{key} {' '.join(map(str, value)) if isinstance(value, list) else value}"
        for key, value in vars(given).items() if value != parser.get_default(key) and key != "out")
    given.out.write_text(text(results, [len(one) for one in family.values()], command))


if __name__ == "__main__":
    main()
