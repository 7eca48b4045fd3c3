rule sample:
    """Samples from every snapshot of a denoiser."""
    input:
        unpack(reads("sample")),
    output:
        **writes("sample"),
    log:
        "results/{scale}/logs/sample/{run}-seed-{seed}.log",
    conda:
        "../../environment.yml"
    threads: THREADS
    resources:
        **resources("sample"),
    params:
        **told("sample"),
    message:
        "sample {wildcards.run}, seed {wildcards.seed} ({wildcards.scale})"
    shell:
        "{resources.run} sample --spec {params.spec:q} {params.files:q} 2>&1 | to_log {log:q}"


rule sample_scores:
    """How good each sample of a run is, by a scorer."""
    input:
        unpack(reads("sample_scores")),
    output:
        **writes("sample_scores"),
    log:
        "results/{scale}/logs/sample-scores/{run}-seed-{seed}-{scorer}.log",
    conda:
        "../../environment.yml"
    threads: THREADS
    resources:
        **resources("sample_scores"),
    params:
        **told("sample_scores"),
    message:
        "score the samples of {wildcards.run}, seed {wildcards.seed}, by {wildcards.scorer} ({wildcards.scale})"
    shell:
        "{resources.run} sample_scores --spec {params.spec:q} {params.files:q} 2>&1 | to_log {log:q}"


rule judge:
    """Which of two runs' samples a judge prefers, pair by pair."""
    input:
        unpack(reads("judge")),
    output:
        **writes("judge"),
    log:
        "results/{scale}/logs/judge/{judge}/{run}/{than}/seed-{seed}.log",
    conda:
        "../../environment.yml"
    threads: THREADS
    resources:
        **resources("judge"),
    params:
        **told("judge"),
    message:
        "judge {wildcards.run} against {wildcards.than}, seed {wildcards.seed}, by {wildcards.judge} ({wildcards.scale})"
    shell:
        "{resources.run} judge --spec {params.spec:q} {params.files:q} 2>&1 | to_log {log:q}"


rule detector:
    """The network in whose features distances are measured."""
    input:
        unpack(reads("detector")),
    output:
        **writes("detector"),
    log:
        "results/{scale}/logs/detector/{dataset}-{detector}.log",
    conda:
        "../../environment.yml"
    threads: THREADS
    resources:
        **resources("detector"),
    params:
        **told("detector"),
    message:
        "make the detector {wildcards.detector} ({wildcards.scale})"
    shell:
        "{resources.run} detector --spec {params.spec:q} {params.files:q} 2>&1 | to_log {log:q}"


rule reference:
    """Moments of the images that samples are compared to, in a detector's features."""
    input:
        unpack(reads("reference")),
    output:
        **writes("reference"),
    log:
        "results/{scale}/logs/reference/{dataset}-{detector}.log",
    conda:
        "../../environment.yml"
    threads: THREADS
    resources:
        **resources("reference"),
    params:
        **told("reference"),
    message:
        "reference moments of {wildcards.dataset} ({wildcards.scale})"
    shell:
        "{resources.run} reference --spec {params.spec:q} {params.files:q} 2>&1 | to_log {log:q}"


rule landmarks:
    """What known images score by a detector: held-out good ones, bad ones, and both mixed."""
    input:
        unpack(reads("landmarks")),
    output:
        **writes("landmarks"),
    log:
        "results/{scale}/logs/landmarks/{study}/{corruption}/{detector}.log",
    conda:
        "../../environment.yml"
    threads: THREADS
    resources:
        **resources("landmarks"),
    params:
        **told("landmarks"),
    message:
        "landmarks of {wildcards.study}, {wildcards.corruption}, by {wildcards.detector} ({wildcards.scale})"
    shell:
        "{resources.run} landmarks --spec {params.spec:q} {params.files:q} 2>&1 | to_log {log:q}"


rule outside:
    """The distance of images from outside, under the protocol of a table's samples."""
    input:
        unpack(reads("outside")),
    output:
        **writes("outside"),
    log:
        "results/{scale}/logs/outside/{outside}.log",
    conda:
        "../../environment.yml"
    threads: THREADS
    resources:
        **resources("outside"),
    params:
        **told("outside"),
    message:
        "score {wildcards.outside}, from outside ({wildcards.scale})"
    shell:
        "{resources.run} outside --spec {params.spec:q} {params.files:q} 2>&1 | to_log {log:q}"


rule evaluate:
    """The distance of a run's samples to its target, by its study's first detector."""
    input:
        unpack(reads("evaluate")),
    output:
        **writes("evaluate"),
    log:
        "results/{scale}/logs/evaluate/{run}-seed-{seed}.log",
    conda:
        "../../environment.yml"
    threads: THREADS
    resources:
        **resources("evaluate"),
    params:
        **told("evaluate"),
    message:
        "evaluate {wildcards.run}, seed {wildcards.seed} ({wildcards.scale})"
    shell:
        "{resources.run} evaluate --spec {params.spec:q} {params.files:q} 2>&1 | to_log {log:q}"


rule sweep:
    """The distances of runs at every point of a grid of widths and guidance."""
    input:
        unpack(reads("sweep")),
    output:
        **writes("sweep"),
    log:
        "results/{scale}/logs/sweep/{sweep}.log",
    conda:
        "../../environment.yml"
    resources:
        **resources("sweep"),
    params:
        **told("sweep"),
    message:
        "sweep {wildcards.sweep} ({wildcards.scale})"
    shell:
        "{resources.run} sweep --spec {params.spec:q} {params.files:q} 2>&1 | to_log {log:q}"


use rule evaluate as evaluate_beside with:
    output:
        **writes("evaluate", beside=True),
    log:
        "results/{scale}/logs/evaluate/{run}-seed-{seed}-{detector}.log",
    message:
        "evaluate {wildcards.run}, seed {wildcards.seed}, by {wildcards.detector} ({wildcards.scale})"


rule neighbours:
    """How far samples are from training images, and from as many unseen ones."""
    input:
        unpack(reads("neighbours")),
    output:
        **writes("neighbours"),
    log:
        "results/{scale}/logs/neighbours/{near}.log",
    conda:
        "../../environment.yml"
    threads: THREADS
    resources:
        **resources("neighbours"),
    params:
        **told("neighbours"),
    message:
        "find the nearest images for {wildcards.near} ({wildcards.scale})"
    shell:
        "{resources.run} neighbours --spec {params.spec:q} {params.files:q} 2>&1 | to_log {log:q}"
