rule sample:
    input:
        denoiser="results/{scale}/runs/{run}/seed-{seed}/denoiser.safetensors",
    output:
        "results/{scale}/runs/{run}/seed-{seed}/samples.safetensors",
    log:
        "results/{scale}/logs/sample/{run}-seed-{seed}.log",
    conda:
        "../../environment.yml"
    threads: THREADS
    resources:
        **resources("sample"),
    params:
        spec=spec("sample"),
        code=code("sample"),
        state=state("{scale}", "runs", "{run}", "seed-{seed}", "sample"),
    message:
        "sample {wildcards.run}, seed {wildcards.seed} ({wildcards.scale})"
    shell:
        "{resources.run} sample --spec {params.spec:q} --denoiser {input.denoiser:q}"
        " --state {params.state:q} --out {output:q} 2>&1 | keep {log:q}"


rule detector:
    input:
        data="results/{scale}/data/{dataset}.safetensors",
    output:
        "results/{scale}/detectors/{dataset}/{detector}.weights",
    log:
        "results/{scale}/logs/detector/{dataset}-{detector}.log",
    conda:
        "../../environment.yml"
    threads: THREADS
    resources:
        **resources("detector"),
    params:
        spec=spec("detector"),
        code=code("detector"),
        weights=detector_option,
        state=state("{scale}", "detectors", "{dataset}", "{detector}"),
    message:
        "make the detector {wildcards.detector} ({wildcards.scale})"
    shell:
        "{resources.run} detector --spec {params.spec:q}"
        " --data {input.data:q} {params.weights:q}"
        " --state {params.state:q} --out {output:q} 2>&1 | keep {log:q}"


rule reference:
    input:
        data="results/{scale}/data/{dataset}.safetensors",
        detector=reference_detector,
    output:
        "results/{scale}/detectors/{dataset}/{detector}-reference.safetensors",
    log:
        "results/{scale}/logs/reference/{dataset}-{detector}.log",
    conda:
        "../../environment.yml"
    threads: THREADS
    resources:
        **resources("reference"),
    params:
        spec=spec("reference"),
        code=code("reference"),
    message:
        "reference moments of {wildcards.dataset} ({wildcards.scale})"
    shell:
        "{resources.run} reference --spec {params.spec:q} --data {input.data:q}"
        " --detector {input.detector:q} --out {output:q} 2>&1 | keep {log:q}"


rule evaluate:
    input:
        samples="results/{scale}/runs/{run}/seed-{seed}/samples.safetensors",
        detector=detector_path,
        reference=reference_path,
    output:
        metrics="results/{scale}/runs/{run}/seed-{seed}/metrics.json",
        moments="results/{scale}/runs/{run}/seed-{seed}/moments.safetensors",
    log:
        "results/{scale}/logs/evaluate/{run}-seed-{seed}.log",
    conda:
        "../../environment.yml"
    threads: THREADS
    resources:
        **resources("evaluate"),
    params:
        spec=spec("evaluate"),
        code=code("evaluate"),
    message:
        "evaluate {wildcards.run}, seed {wildcards.seed} ({wildcards.scale})"
    shell:
        "{resources.run} evaluate --spec {params.spec:q} --samples {input.samples:q}"
        " --detector {input.detector:q} --reference {input.reference:q} --out {output.metrics:q}"
        " --moments-out {output.moments:q} 2>&1 | keep {log:q}"


# By a study's other detectors; what it reads and runs is the same.


use rule evaluate as evaluate_beside with:
    output:
        metrics="results/{scale}/runs/{run}/seed-{seed}/metrics-{detector}.json",
        moments="results/{scale}/runs/{run}/seed-{seed}/moments-{detector}.safetensors",
    log:
        "results/{scale}/logs/evaluate/{run}-seed-{seed}-{detector}.log",
    message:
        "evaluate {wildcards.run}, seed {wildcards.seed}, by {wildcards.detector} ({wildcards.scale})"
