# What each stage is told; no rules.

from ambient.asked import SPECIFICATIONS


def asked_of(stage, wildcards):
    """The specification of a job."""
    return SPECIFICATIONS[stage](experiments(wildcards), dict(wildcards.items()))


def spec(stage):
    """The specification of each job of a stage, as its option `--spec`."""
    return lambda wildcards: to_json(asked_of(stage, wildcards))


def code(stage):
    """The code that each job of a stage reaches, by one digest: an edit re-runs exactly what depends on it.

    At the paper's scale, and at those that extend it, a comment must not cost a cluster-week: there any code will
    do, and the audit reports what was made by other code.
    """

    def found(wildcards):
        if "paper" in experiments(wildcards).lineage:
            return "any"
        told = plain(asked_of(stage, wildcards)) if stage in SPECIFICATIONS else None
        return digest(sources.digests(f"ambient.{stage}", told))

    return found


def raw_option(wildcards):
    """Raw data: an option, so that no character of their path has a meaning to the workflow or a shell."""
    path = experiments(wildcards).dataset(wildcards.dataset).path
    if path and not Path(path).exists():
        raise WorkflowError(
            f"datasets.{wildcards.dataset}.path: no such file or folder {path!r} (set it in config/local.yaml)"
        )
    return ["--raw", path] if path else []


def detector_option(wildcards):
    """The local weight file of a detector: an option, so that its path is in no specification."""
    path = experiments(wildcards).detector(wildcards.detector).weights
    return ["--weights", path] if path else []


def added_option(wildcards, input):
    return options(input, "added")
