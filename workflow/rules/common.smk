# Scales and paths; no rules. Every specification is checked here, at parse time.

import os
import re
import sys
from pathlib import Path

# The package lies beside the Snakefile, wherever the workflow runs (`--directory`): for this process and its jobs.
sys.path.insert(0, workflow.basedir)
os.environ.update(PYTHONPATH=os.pathsep.join([workflow.basedir, *filter(None, [os.getenv("PYTHONPATH")])]))

from snakemake.exceptions import WorkflowError

from ambient import settings
from ambient.provenance import source_code
from ambient.storage.files import digest
from ambient.specs import CORRUPTION_FIGURES
from ambient.specs.report import TIMES
from ambient.specs.strict import SpecError, plain, to_json

try:
    settings.check_main(config)
    SCALES = settings.scales(settings.home())
    EXPERIMENTS = {scale: settings.Experiments(settings.home(), scale) for scale in SCALES}
except SpecError as error:
    raise WorkflowError(f"configuration: {error}")

THREADS = config["threads"]
PICTURES = ["", "-grid", "-curves", "-classifiers"]  # of a table, in the order of the report
FIGURES = [f"{part}.{kind}" for part in PICTURES for kind in ["png", "pdf"]]
OF_A_TABLE = [".csv", *FIGURES, "-audit.html"]
TABLES = sorted({name for found in EXPERIMENTS.values() for name in found.tables})


def figures_of(kinds):
    """The figures, of any scale, whose kind is or is not among those of corruptions."""
    found = {n for e in EXPERIMENTS.values() for n, spec in e.figures.items() if kinds(spec.kind)}
    return "|".join(map(re.escape, sorted(found))) or "none"


wildcard_constraints:
    scale="|".join(map(re.escape, SCALES)),
    table="|".join(map(re.escape, TABLES)),
    gallery=figures_of(lambda kind: kind in CORRUPTION_FIGURES),
    figure=figures_of(lambda kind: kind not in CORRUPTION_FIGURES),
    dataset=settings.NAME,
    study=settings.NAME,
    corruption=settings.NAME,
    classifier=settings.NAME,
    annotation=settings.NAME,
    run=settings.NAME,
    detector=settings.NAME,
    fraction=r"[0-9.e-]+",
    seed=r"\d+",
    page="report|report-all",  # of the main tables, of everything


# Where a scale's tables and figures lie, where their logs, what their rules' names end in, and what a message calls the
# scale. The paper's lie at results/ itself, their logs beside all others of the scale.
PLACES = [
    ("results/{scale}", "results/{scale}/logs", "", "{wildcards.scale}"),
    ("results", "results/paper/logs", "_of_paper", "paper"),
]


def scale_of(wildcards):
    """The scale of a job; the paper's tables and figures have none in their path."""
    return getattr(wildcards, "scale", "paper")


def experiments(wildcards):
    return EXPERIMENTS[scale_of(wildcards)]


def folder_of(scale):
    """Where a scale's tables and figures lie."""
    return "results" if scale == "paper" else f"results/{scale}"


def tables_and_figures(scale):
    """What a bare run of a scale makes."""
    main, folder = EXPERIMENTS[scale].main, folder_of(scale)
    return [
        *[f"{folder}/{table}{suffix}" for table in main for suffix in OF_A_TABLE],
        f"{folder}/report.html",
    ]


def everything(scale):
    """All tables and figures of a scale, its summary, the theory, and a page with all of it."""
    found, folder = EXPERIMENTS[scale], folder_of(scale)
    tables = [f"{folder}/{table}{suffix}" for table in found.tables for suffix in OF_A_TABLE]
    figures = [f"{folder}/{name}{suffix}" for name in found.figures for suffix in [".png", ".pdf"]]
    whole = ["summary.csv", "theory.png", "report-all.html"]
    return [*tables, *figures, *[f"{folder}/{name}" for name in whole]]


def options(input, *names):
    """Those of the named inputs that a job has, as words of a command line; the rules quote each (`:q`)."""
    given = {name: input.get(name) for name in names if input.get(name)}
    return [
        word
        for name, paths in given.items()
        for word in [f"--{name.replace('_', '-')}", *([paths] if isinstance(paths, str) else paths)]
    ]


def state(*parts):
    """Where a job keeps its resumable state: undeclared, since Snakemake deletes declared outputs."""
    return f"results/.state/{'/'.join(parts)}"
