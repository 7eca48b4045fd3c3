# All helper functions of the workflow; no rules. Every specification is built here, at parse time.

import re
import sys

sys.path.insert(0, workflow.basedir)

from snakemake.exceptions import WorkflowError

from ambient import config as settings
from ambient import sources
from ambient.strict import SpecError, to_json

try:
    settings.check_main(config)
    SCALES = settings.scales("config")
    EXPERIMENTS = {scale: settings.Experiments("config", scale) for scale in SCALES}
except SpecError as error:
    raise WorkflowError(f"configuration: {error}")

THREADS = config["threads"]
FIGURES = [".pdf", ".png", "-curves.png", "-classifiers.png", "-grid.png"]
TABLES = sorted({name for found in EXPERIMENTS.values() for name in found.tables})


wildcard_constraints:
    scale="|".join(map(re.escape, SCALES)),
    table="|".join(map(re.escape, TABLES)),
    dataset=settings.NAME,
    study=settings.NAME,
    corruption=settings.NAME,
    classifier=settings.NAME,
    annotation=settings.NAME,
    run=settings.NAME,
    detector=settings.NAME,
    fraction=r"[0-9.e-]+",
    seed=r"\d+",
    # Where a scale's tables and figures lie: results/demo, ..., and results itself for the paper's.
    folder="results|results/(?:" + "|".join(re.escape(s) for s in SCALES if s != "paper") + ")",


def scale_of(wildcards):
    """The scale of a job; the paper's tables and figures have none in their path."""
    folder = getattr(wildcards, "folder", "results")
    return getattr(wildcards, "scale", folder.partition("/")[2] or "paper")


def experiments(wildcards):
    return EXPERIMENTS[scale_of(wildcards)]


def tables_and_figures(scale):
    """What a bare run of a scale makes."""
    folder = "results" if scale == "paper" else f"results/{scale}"
    return [
        f"{folder}/{table}{suffix}" for table in EXPERIMENTS[scale].tables for suffix in [".csv", *FIGURES]
    ]


def code(stage):
    """The source files that a stage reaches, as inputs: an edit re-runs exactly what depends on it.

    At the paper's scale a comment must not cost a cluster-week: there the files only have to exist,
    and the audit reports what was made by other code.
    """
    files = [str(path) for path in sources.closure(f"ambient.{stage}")]

    def inputs(wildcards):
        return [ancient(path) for path in files] if scale_of(wildcards) == "paper" else files

    return inputs


def state(*parts):
    """Where a job keeps its resumable state: undeclared, since Snakemake deletes declared outputs."""
    return f"results/.state/{'/'.join(parts)}"


# --- specifications, one function a stage ---------------------------------------------------------


def dataset_path(wildcards):
    return experiments(wildcards).dataset(wildcards.dataset).path or []


def dataset_spec(wildcards):
    return to_json(experiments(wildcards).portable_dataset(wildcards.dataset))


def raw_option(wildcards, input):
    return f"--raw {input.raw}" if input.get("raw") else ""


def detector_option(wildcards):
    """The local weight file of a detector: an option, so that its path is in no specification."""
    path = experiments(wildcards).detector(wildcards.detector).weights
    return f"--weights {path}" if path else ""


def mixture_spec(wildcards):
    found = experiments(wildcards)
    return to_json(found.mixture(wildcards.study, wildcards.corruption, float(wildcards.fraction)))


def classifier_spec(wildcards):
    return to_json(experiments(wildcards).classifier(wildcards.study, wildcards.classifier))


def annotation_spec(wildcards):
    return to_json(experiments(wildcards).annotation(wildcards.study, wildcards.annotation))


def training_spec(wildcards):
    return to_json(experiments(wildcards).training(wildcards.run, int(wildcards.seed)))


def sampling_spec(wildcards):
    return to_json(experiments(wildcards).sampling(wildcards.run))


def detector_spec(wildcards):
    return to_json(experiments(wildcards).portable_detector(wildcards.detector))


def evaluation_spec(wildcards):
    return to_json(experiments(wildcards).evaluation(wildcards.run))


def theory_spec(wildcards):
    return to_json(experiments(wildcards).theory("theory"))


def table_spec(wildcards):
    return to_json(experiments(wildcards).table(wildcards.table))


# --- which files a job reads ----------------------------------------------------------------------


def study_dataset(wildcards):
    """The full clean dataset of a study: read by the `corrupt` stage only."""
    name = experiments(wildcards).study(wildcards.study)["dataset"]
    return f"results/{scale_of(wildcards)}/data/{name}.safetensors"


def mixture_path(scale, study, corruption, fraction):
    return f"results/{scale}/mixtures/{study}/{corruption}/clean-{fraction}.safetensors"


def classifier_mixture(wildcards):
    """The run's own mixture; for a leaky classifier one with a clean fraction of its own."""
    fraction = experiments(wildcards).fraction(wildcards.study, wildcards.classifier)
    return mixture_path(wildcards.scale, wildcards.study, wildcards.corruption, fraction)


def annotation_mixture(wildcards):
    fraction = experiments(wildcards).fraction(wildcards.study)
    return mixture_path(wildcards.scale, wildcards.study, wildcards.corruption, fraction)


def annotation_classifier(wildcards):
    name = experiments(wildcards).classifier_of(wildcards.annotation)
    if name is None:
        return []
    return (
        f"results/{wildcards.scale}/classifiers/{wildcards.study}/{wildcards.corruption}/{name}.safetensors"
    )


def classifier_option(wildcards, input):
    return f"--classifier {input.classifier}" if input.get("classifier") else ""


def run_mixture(wildcards):
    found = experiments(wildcards)
    run = found.run(wildcards.run)
    return mixture_path(wildcards.scale, run.study, run.corruption, found.fraction(run.study))


def annotation_path(scale, run, suffix):
    found = EXPERIMENTS[scale].run(run)
    return f"results/{scale}/annotations/{found.study}/{found.corruption}/{found.annotation}{suffix}"


def run_annotations(wildcards):
    return annotation_path(wildcards.scale, wildcards.run, ".safetensors")


def detector_path(wildcards):
    study = experiments(wildcards).study(experiments(wildcards).run(wildcards.run).study)
    return f"results/{wildcards.scale}/detectors/{study['dataset']}/{study['detector']}.weights"


def reference_path(wildcards):
    return detector_path(wildcards).replace(".weights", "-reference.safetensors")


def table_runs(name):
    """A function giving one file of each run and training seed of a table, in row order."""

    def paths(wildcards):
        table = experiments(wildcards).table(wildcards.table)
        return [
            f"results/{scale_of(wildcards)}/runs/{row.run}/seed-{seed}/{name}"
            for row in table.rows
            for seed in table.training_seeds
        ]

    return paths


def table_samples(wildcards):
    """The first training seed's samples of each row."""
    table = experiments(wildcards).table(wildcards.table)
    folder = f"results/{scale_of(wildcards)}/runs"
    return [f"{folder}/{row.run}/seed-{table.training_seeds[0]}/samples.safetensors" for row in table.rows]


def table_summaries(wildcards):
    """The annotation summary of each row."""
    table = experiments(wildcards).table(wildcards.table)
    return [annotation_path(scale_of(wildcards), row.run, ".json") for row in table.rows]


def annotated_rows(wildcards):
    return [row.run for row in experiments(wildcards).table(wildcards.table).rows if row.annotated]


def table_annotations(wildcards):
    """The annotations of the rows that a classifier annotated."""
    scale = scale_of(wildcards)
    return [annotation_path(scale, run, ".safetensors") for run in annotated_rows(wildcards)]


def table_calibrations(wildcards):
    """Their classifiers' held-out reports."""
    scale, found = scale_of(wildcards), experiments(wildcards)
    runs = [found.run(name) for name in annotated_rows(wildcards)]
    return [
        f"results/{scale}/classifiers/{run.study}/{run.corruption}/"
        f"{found.classifier_of(run.annotation)}.calibration.json"
        for run in runs
    ]
