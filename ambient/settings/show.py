"""`python -m ambient spec`: every resolved setting of a run, and the file that set it."""

from __future__ import annotations

import argparse
import sys

from ambient.settings.experiments import Experiments
from ambient.settings.layers import lines
from ambient.specs.strict import SpecError, plain


def main(arguments: list[str]) -> int:
    """`python -m ambient spec RUN [SCALE]`: print every resolved setting of a run, and its file."""
    parser = argparse.ArgumentParser(prog="python -m ambient spec", description=main.__doc__)
    parser.add_argument("run")
    parser.add_argument("scale", nargs="?", default="demo")
    parser.add_argument("--config", default="config", help="folder of the YAML files")
    given = parser.parse_args(arguments)
    try:
        found = Experiments(given.config, given.scale)
        run = found.run(given.run)
        found.validate(given.run)
    except SpecError as error:
        print(f"ambient spec: error: {error}", file=sys.stderr)
        return 2
    study, classifier = found.study(run.study), found.classifier_of(run.annotation)
    stages = {"dataset": found.dataset(study["dataset"]),
              "mixture": found.mixture(run.study, run.corruption, found.fraction(run.study))}
    if classifier:
        stages["classifier"] = found.classifier(run.study, classifier)
    stages |= {"annotation": found.annotation(run.study, run.annotation),
               "training": found.training(run.name, study["training_seeds"][0]),
               "sampling": found.sampling(run.name), "evaluation": found.evaluation(run.name)}
    for stage, spec in stages.items():
        for key, value in lines(plain(spec), stage):
            source = found.sources.get(f"studies.{run.study}.{key}", "")
            print(f"{key} = {value}" + (f"    # {source}" if source else ""))
    return 0
