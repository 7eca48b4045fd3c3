"""`python -m ambient spec`: every resolved setting of a run, and the file that set it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ambient.settings import home
from ambient.settings.experiments import Experiments
from ambient.settings.layers import lines
from ambient.settings.resolve import Run
from ambient.specs.strict import plain


def main(arguments: list[str]) -> int:
    """`python -m ambient spec RUN [SCALE]`: print every setting of a run, and the file that set it."""
    parser = argparse.ArgumentParser(prog="python -m ambient spec", description=main.__doc__)
    parser.add_argument("run", help="a run, which is a row of a table: ambient-blur-0.6 say")
    parser.add_argument("scale", nargs="?", default="demo",
                        help="a scale, which is a file of config/scales (default: %(default)s)")
    parser.add_argument("--config", type=Path, default=home(), help="folder of the YAML files (%(default)s)")
    given = parser.parse_args(arguments)
    found = Experiments(given.config, given.scale)
    run = found.run(given.run)
    found.validate(given.run)
    for stage, (spec, keys) in stages(found, run).items():
        for key, value in lines(plain(spec)):
            written = next(filter(None, (found.entries.setter(f"{prefix}.{key}") for prefix in keys)), None)
            print(f"{stage}.{key} = {value}" + (f"    # {written.file}: {written.key}" if written else ""))
    return 0


def stages(found: Experiments, run: Run) -> dict[str, tuple[Any, tuple[str, ...]]]:
    """Stage -> its specification, and the dotted keys under which its settings stand, the strongest first."""
    drawn = (f"runs.{run.name}.sampling", f"studies.{run.study}.sampling")
    study, name = f"studies.{run.study}", found.study(run.study).dataset
    classifier, mixture = found.classifier_of(run.annotation), found.mixture(
        run.study, run.corruption, found.fraction(run.study))
    made = {"dataset": (found.dataset(name), (f"datasets.{name}",)), "mixture": (mixture, (study,))}
    if classifier:
        made["classifier"] = (found.classifier(run.study, classifier),
                              (f"classifiers.{classifier}", f"{study}.classifier"))
    return made | {
        "annotation": (found.annotation(run.study, run.annotation, run.corruption),
                       (f"annotations.{run.annotation}", f"{study}.annotation")),
        "training": (found.first_training(run.name),
                     (f"runs.{run.name}.training", f"{study}.training")),
        "sampling": (found.sampling(run.name), drawn),
        "evaluation": (found.evaluation(run.name), drawn)}
