# What each stage is told, one function a stage; no rules.


def dataset_spec(wildcards):
    return to_json(experiments(wildcards).portable_dataset(wildcards.dataset))


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


def mixture_spec(wildcards):
    found = experiments(wildcards)
    return to_json(found.mixture(wildcards.study, wildcards.corruption, float(wildcards.fraction)))


def added_option(wildcards, input):
    return options(input, "added")


def combine_spec(wildcards):
    return to_json(experiments(wildcards).combined(wildcards.run))


def locality_spec(wildcards):
    return to_json(experiments(wildcards).locality(wildcards.study))


def summary_spec(wildcards):
    return to_json(experiments(wildcards).summary())


def figure_spec(wildcards):
    name = wildcards.get("gallery") or wildcards.figure
    return to_json(experiments(wildcards).figure(name))


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
