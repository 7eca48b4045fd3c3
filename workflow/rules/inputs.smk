# Which files each job reads; no rules.


def study_dataset(wildcards):
    """The full clean dataset of a study: read by the `corrupt` stage only."""
    name = experiments(wildcards).study(wildcards.study).dataset
    return f"results/{scale_of(wildcards)}/data/{name}.safetensors"


def added_dataset(wildcards):
    """The dataset that op `add` puts in the place of the corrupted images."""
    name = experiments(wildcards).added_dataset(wildcards.corruption)
    return f"results/{wildcards.scale}/data/{name}.safetensors" if name else []


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


def crop_classifiers(scale, study, corruption, annotation):
    """The classifiers of an annotation by crops, one for each size."""
    return [
        f"results/{scale}/classifiers/{study}/{corruption}/{name}.safetensors"
        for name in EXPERIMENTS[scale].crop_classifiers(annotation)
    ]


def annotation_crops(wildcards):
    return crop_classifiers(wildcards.scale, wildcards.study, wildcards.corruption, wildcards.annotation)


def annotation_locality(wildcards):
    """The measured map of an annotation by crops."""
    spec = experiments(wildcards).annotation(wildcards.study, wildcards.annotation)
    if spec.method != "crops" or spec.crop_map != "measured":
        return []
    return f"results/{wildcards.scale}/locality/{wildcards.study}.json"


def classifier_option(wildcards, input):
    return options(input, "classifier", "crops", "locality")


def locality_denoiser(wildcards):
    found = experiments(wildcards)
    run = found.locality_run(wildcards.study)
    seed = found.study(found.run(run).study).training_seeds[0]
    return f"results/{wildcards.scale}/runs/{run}/seed-{seed}/denoiser.safetensors"


def locality_data(wildcards):
    """The images that the run of the locality experiment was trained on."""
    found = experiments(wildcards)
    run = found.run(found.locality_run(wildcards.study))
    return mixture_path(wildcards.scale, run.study, run.corruption, found.fraction(run.study))


def part_mixtures(wildcards):
    """The mixtures that a run's data are combined of."""
    found = experiments(wildcards)
    run = found.run(wildcards.run)
    fraction = found.fraction(run.study)
    return [mixture_path(wildcards.scale, run.study, corruption, fraction) for corruption, _ in run.parts]


def part_annotations(wildcards):
    run = experiments(wildcards).run(wildcards.run)
    return [
        f"results/{wildcards.scale}/annotations/{run.study}/{corruption}/{annotation}.safetensors"
        for corruption, annotation in run.parts
    ]


def training_data(scale, run):
    """What a run is trained on: its mixture, or the combination of several."""
    found = EXPERIMENTS[scale].run(run)
    if found.also:
        return f"results/{scale}/combined/{run}.safetensors"
    return mixture_path(scale, found.study, found.corruption, EXPERIMENTS[scale].fraction(found.study))


def run_mixture(wildcards):
    return training_data(wildcards.scale, wildcards.run)


def annotation_path(scale, run, suffix):
    found = EXPERIMENTS[scale].run(run)
    if found.also:
        return f"results/{scale}/combined/{run}-annotations{suffix}"
    return f"results/{scale}/annotations/{found.study}/{found.corruption}/{found.annotation}{suffix}"


def run_annotations(wildcards):
    return annotation_path(wildcards.scale, wildcards.run, ".safetensors")


def detector_of(wildcards):
    """The detector of a score: named in its path, or the study's first."""
    found = experiments(wildcards)
    return wildcards.get("detector") or found.detectors(found.run(wildcards.run).study)[0]


def detector_path(wildcards):
    """Its weights, made on a dataset of its own or on the study's."""
    found, name = experiments(wildcards), detector_of(wildcards)
    folder = f"results/{wildcards.scale}/detectors"
    dataset = found.detector_dataset(found.run(wildcards.run).study, name)
    return f"{folder}/{dataset}/{found.weights_of(name)}.weights"


def reference_detector(wildcards):
    found = experiments(wildcards)
    name = found.weights_of(wildcards.detector)
    dataset = found.entry("detectors", name, "detectors").get("dataset", wildcards.dataset)
    return f"results/{wildcards.scale}/detectors/{dataset}/{name}.weights"


def reference_path(wildcards):
    found = experiments(wildcards)
    dataset = found.study(found.run(wildcards.run).study).dataset
    return f"results/{wildcards.scale}/detectors/{dataset}/{detector_of(wildcards)}-reference.safetensors"


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


def table_beside(wildcards):
    """The same scores by the studies' other detectors, detector by detector."""
    found, name = experiments(wildcards), wildcards.table
    study = found.run(found.table(name).rows[0].run).study
    files = [table_runs(f"metrics-{other}.json")(wildcards) for other in found.detectors(study)[1:]]
    return [path for paths in files for path in paths]


def table_usable(wildcards):
    """The annotations of each row."""
    rows = experiments(wildcards).table(wildcards.table).rows
    return [annotation_path(scale_of(wildcards), row.run, ".safetensors") for row in rows]


def table_samples(wildcards):
    """The first training seed's samples of each row."""
    table = experiments(wildcards).table(wildcards.table)
    folder = f"results/{scale_of(wildcards)}/runs"
    return [f"{folder}/{row.run}/seed-{table.training_seeds[0]}/samples.safetensors" for row in table.rows]


def table_losses(wildcards):
    """The losses of the same trainings."""
    return [path.replace("samples.safetensors", "loss.jsonl") for path in table_samples(wildcards)]


def table_summaries(wildcards):
    """The annotation summary of each row."""
    table = experiments(wildcards).table(wildcards.table)
    return [annotation_path(scale_of(wildcards), row.run, ".json") for row in table.rows]


def table_annotations(wildcards):
    """The annotations of each row."""
    table = experiments(wildcards).table(wildcards.table)
    return [annotation_path(scale_of(wildcards), row.run, ".safetensors") for row in table.rows]


def table_mixtures(wildcards):
    """What the run of each row is trained on."""
    table, scale = experiments(wildcards).table(wildcards.table), scale_of(wildcards)
    return [training_data(scale, row.run) for row in table.rows]


def annotated_rows(wildcards):
    return [row.run for row in experiments(wildcards).table(wildcards.table).rows if row.annotated]


def table_reports(wildcards):
    """What their classifiers say: held-out report of a noise classifier, summary of an annotation by crops."""
    scale, found = scale_of(wildcards), experiments(wildcards)
    paths = []
    for run in map(found.run, annotated_rows(wildcards)):
        name = found.classifier_of(run.annotation)
        folder = f"results/{scale}/classifiers/{run.study}/{run.corruption}"
        paths.append(
            f"{folder}/{name}.calibration.json" if name else annotation_path(scale, run.name, ".json")
        )
    return paths


def figure_entry(wildcards):
    name = wildcards.get("gallery") or wildcards.figure
    return experiments(wildcards).figure_entry(name)


def gallery_data(wildcards):
    study = experiments(wildcards).study(figure_entry(wildcards).study)
    return f"results/{scale_of(wildcards)}/data/{study.dataset}.safetensors"


def gallery_annotations(wildcards):
    """The annotations of a figure of levels, whose images are noised to them."""
    reports = gallery_reports(wildcards) if figure_entry(wildcards).kind == "levels" else []
    return [path.replace(".json", ".safetensors") for path in reports]


def gallery_reports(wildcards):
    """Calibration of the classifier (crossing), or a summary of each annotation (levels)."""
    entry, scale = figure_entry(wildcards), scale_of(wildcards)
    study, annotation = entry.study, entry.annotation
    if entry.kind == "crossing":
        name = experiments(wildcards).classifier_of(annotation)
        corruption = entry.corruptions[0]
        return [f"results/{scale}/classifiers/{study}/{corruption}/{name}.calibration.json"]
    if entry.kind == "levels":
        return [f"results/{scale}/annotations/{study}/{c}/{annotation}.json" for c in entry.corruptions]
    return []


def figure_inputs(wildcards):
    """What a figure of crops reads, by the name of its option."""
    entry, scale, found = figure_entry(wildcards), scale_of(wildcards), experiments(wildcards)
    if entry.kind == "locality":
        return {"locality_table": f"results/{scale}/locality/{entry.study}.csv"}
    if entry.kind == "patches":
        corruption = entry.corruptions[0]
        data = mixture_path(scale, entry.study, corruption, found.fraction(entry.study))
        crops = crop_classifiers(scale, entry.study, corruption, entry.annotation)
        if entry.shown == "target":  # images of the target that are not in the mixture
            full = found.study(entry.study).dataset
            return {"data": f"results/{scale}/data/{full}.safetensors", "seen": data, "crops": crops}
        return {"data": data, "crops": crops}
    run = entry.run
    return {"data": training_data(scale, run), "annotations": annotation_path(scale, run, ".safetensors")}


def figure_options(wildcards, input):
    return options(input, "data", "seen", "annotations", "crops", "locality_table")


def report_tables(wildcards):
    spec = experiments(wildcards).report(wildcards.page == "report-all")
    return [f"{folder_of(spec.scale)}/{table.name}.csv" for table in spec.tables]


def report_pictures(wildcards):
    """The figures of each table, then those that belong to none."""
    spec = experiments(wildcards).report(wildcards.page == "report-all")
    of_tables = [f"{table.name}{part}" for table in spec.tables for part in PICTURES]
    return [
        f"{folder_of(spec.scale)}/{n}.png" for n in [*of_tables, *[figure.name for figure in spec.figures]]
    ]


def summary_tables(wildcards):
    scale = scale_of(wildcards)
    return [f"{folder_of(scale)}/{table}.csv" for table in EXPERIMENTS[scale].tables]


def summary_logs(wildcards):
    """The losses of the trainings whose times the running text gives, text by text."""
    scale, found = scale_of(wildcards), experiments(wildcards)
    return [
        f"results/{scale}/runs/{run}/seed-{seed}/loss.jsonl"
        for text in found.texts()
        if text.of in TIMES
        for run in text.runs
        for seed in found.study(found.run(run).study).training_seeds
    ]


def summary_reports(wildcards):
    """The report of the classifier of each crossing that the running text gives."""
    scale, found = scale_of(wildcards), experiments(wildcards)
    runs = [found.run(text.runs[0]) for text in found.texts() if text.of == "crossing"]
    return [
        f"results/{scale}/classifiers/{run.study}/{run.corruption}/{found.classifier_of(run.annotation)}"
        ".calibration.json"
        for run in runs
    ]
