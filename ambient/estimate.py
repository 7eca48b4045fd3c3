"""What a scale costs: images and GPU-hours of each stage, from the networks' own operations.

An estimate: the time of an image is taken as proportional to the operations of its passes, calibrated by
the paper's published throughput (CIFAR-10, 55 M parameters: 0.8 s for 1,000 training images on 8 V100).
A training image is one forward and one backward pass, three forward passes' worth.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict

from ambient.config import Experiments
from ambient.spec import NetworkSpec
from ambient.strict import SpecError

PUBLISHED_SECONDS = 0.8 * 8 / 1000  # V100-seconds of one training image of the paper's CIFAR-10 network
PUBLISHED = NetworkSpec(128, (2, 2, 2), 4, (16,), 0.13)
TRAIN = 3  # forward passes' worth of a training image
STAGES = ("classifiers", "annotations", "training", "sampling")


def operations(network: NetworkSpec, resolution: int, channels: int, encoder_only: bool = False) -> int:
    """Floating-point operations of one image's forward pass, counted on a network without memory."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from ambient.denoiser import build_unet

    with torch.device("meta"):
        unet = build_unet(network, resolution, channels, 10, True, None, encoder_only)
        x, one = torch.zeros(1, channels, resolution, resolution), torch.ones(1)
        labels = torch.zeros(1, 10) if network.conditional else None
        with FlopCounterMode(display=False) as counter:
            unet.eval()(x, one, class_labels=labels, augment_labels=torch.zeros(1, 9))
    return counter.get_total_flops()


def passes(found: Experiments) -> dict[str, dict[tuple, float]]:
    """Forward passes of each stage: stage -> (network, resolution, channels, encoder only) -> number.

    What several tables share is counted once, as the workflow makes it once.
    """
    total: dict[str, dict[tuple, float]] = {stage: defaultdict(float) for stage in STAGES}
    classifiers, annotations = set(), set()
    for name in dict.fromkeys([*found.needed(), *(f["run"] for f in map(
            found.figure_entry, found.figures) if f["run"])]):
        run = found.run(name)
        for corruption, annotation in run.parts:
            annotations.add((run.study, corruption, annotation))
    for entry in map(found.figure_entry, found.figures):
        annotations |= {(entry["study"], c, entry["annotation"]) for c in entry["corruptions"]
                        if entry["annotation"]}
    for study, corruption, annotation in sorted(annotations):
        spec = found.annotation(study, annotation)
        asked = found.crop_classifiers(annotation) or [found.classifier_of(annotation)]
        data = found.dataset(found.study(study)["dataset"])
        for name in filter(None, asked):
            classifier = found.classifier(study, name)
            key = (classifier.network, data.resolution, data.channels, True)
            classifiers.add((study, corruption, name, key, classifier.optimiser.nimg))
            each = spec.num_sigmas * spec.num_trials
            if classifier.crop:
                each = (-(-data.resolution // classifier.crop)) ** 2
            total["annotations"][key] += each * images_of(found, study, corruption)
    for *_, key, nimg in classifiers:
        total["classifiers"][key] += TRAIN * nimg
    for name in found.needed():
        study = found.study(found.run(name).study)
        data, sampling = found.dataset(study["dataset"]), found.sampling(name)
        for seed in study["training_seeds"]:
            training = found.training(name, seed)
            key = (training.network, data.resolution, data.channels, False)
            total["training"][key] += TRAIN * training.optimiser.nimg
            total["sampling"][key] += (len(training.snapshots) * len(sampling.seeds) * sampling.num_samples
                                       * (2 * sampling.sampler.num_steps - 1))
    return total


def images_of(found: Experiments, study: str, corruption: str) -> float:
    """How many images of a mixture are annotated; subsets by class count as the whole."""
    added = found.added_dataset(corruption)
    data = found.dataset(added or found.study(study)["dataset"])
    count = min(data.max_images or data.num_images or 0, data.num_images or 0)
    return count if added else count * (1 - found.fraction(study))


def main(arguments: list[str]) -> int:
    """`python -m ambient estimate [SCALE]`: GPU-hours of everything a scale makes, estimated."""
    parser = argparse.ArgumentParser(prog="python -m ambient estimate", description=main.__doc__)
    parser.add_argument("scale", nargs="?", default="paper")
    parser.add_argument("--config", default="config", help="folder of the YAML files")
    given = parser.parse_args(arguments)
    try:
        found = Experiments(given.config, given.scale)
    except SpecError as error:
        print(f"ambient estimate: error: {error}", file=sys.stderr)
        return 2
    unit = PUBLISHED_SECONDS / (TRAIN * operations(PUBLISHED, 32, 3))
    print(f"scale {given.scale}: {len(found.needed())} runs in {len(found.tables)} tables\n")
    print(f"{'stage':12} {'forward passes':>15} {'V100-hours':>11}")
    hours = 0.0
    for stage, counts in passes(found).items():
        spent = sum(number * operations(*key) for key, number in counts.items()) * unit / 3600
        hours += spent
        print(f"{stage:12} {sum(counts.values()):15.3g} {spent:11,.1f}")
    print(f"{'total':12} {'':15} {hours:11,.1f}\n")
    print("Estimated from operations, and 0.8 s for 1,000 training images on 8 V100 (published for "
          f"CIFAR-10).\nCount of jobs: snakemake -n --quiet host -d . {given.scale}_all")
    return 0
