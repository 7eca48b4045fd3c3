# What each stage is told; no rules.

from ambient.cluster import adopt
from ambient.settings.asked import SPECIFICATIONS


def asked_of(stage, wildcards):
    """The specification of a job."""
    return SPECIFICATIONS[stage](experiments(wildcards), dict(wildcards.items()))


def spec(stage):
    """The specification of each job of a stage, as its option `--spec`."""
    return lambda wildcards: to_json(asked_of(stage, wildcards))


def code_of(stage, wildcards):
    """The code that a job reaches, by name and digest; None where any will do.

    At the paper's scale, and at those that extend it, a comment must not cost a cluster-week: there the audit reports
    what was made by other code.
    """
    if "paper" in experiments(wildcards).lineage:
        return None
    told = plain(asked_of(stage, wildcards)) if stage in SPECIFICATIONS else None
    return source_code.digests(f"ambient.{stage}", told)


def code(stage):
    """The code of each job of a stage as one digest: an edit re-runs exactly what depends on it."""
    return lambda wildcards: digest(code_of(stage, wildcards))


def told(job, stage):
    """What a job would be told now, to be held against the manifests of its outputs."""
    outside = job.params.get("raw") or job.params.get("weights")
    return adopt.Told(
        stage,
        asked_of(stage, job.wildcards),
        code_of(stage, job.wildcards),
        Path(outside[1]) if outside else None,
    )


def raw_option(wildcards):
    """Raw data: an option, so that no character of their path has a meaning to the workflow or a shell."""
    path = experiments(wildcards).dataset(wildcards.dataset).path
    return ["--raw", path] if path else []


def detector_option(wildcards):
    """The local weight file of a detector: an option, so that its path is in no specification."""
    path = experiments(wildcards).detector(wildcards.detector).weights
    return ["--weights", path] if path else []


def added_option(wildcards, input):
    return options(input, "added")


adopt.install(workflow, told)
