rule classify:
    input:
        data=classifier_mixture,
    output:
        weights="results/{scale}/classifiers/{study}/{corruption}/{classifier}.safetensors",
        calibration="results/{scale}/classifiers/{study}/{corruption}/{classifier}.calibration.json",
    log:
        "results/{scale}/logs/classify/{study}-{corruption}-{classifier}.log",
    priority: 1  # what the longest chains begin with
    conda:
        "../../environment.yml"
    threads: THREADS
    resources:
        **resources("classify"),
    params:
        spec=spec("classifier"),
        code=code("classifier"),
        state=state("{scale}", "classifiers", "{study}", "{corruption}", "{classifier}"),
    message:
        "train the noise classifier of {wildcards.corruption} ({wildcards.scale})"
    shell:
        "{resources.run} classifier --spec {params.spec:q}"
        " --data {input.data:q} --state {params.state:q}"
        " --out {output.weights:q} --calibration {output.calibration:q} 2>&1 | keep {log:q}"


rule annotate:
    input:
        data=annotation_mixture,
        classifier=annotation_classifier,
        crops=annotation_crops,
        locality=annotation_locality,
    output:
        table="results/{scale}/annotations/{study}/{corruption}/{annotation}.safetensors",
        summary="results/{scale}/annotations/{study}/{corruption}/{annotation}.json",
    log:
        "results/{scale}/logs/annotate/{study}-{corruption}-{annotation}.log",
    priority: 1
    conda:
        "../../environment.yml"
    threads: THREADS
    resources:
        **resources("annotate"),
    params:
        spec=spec("annotate"),
        code=code("annotate"),
        classifier=classifier_option,
        state=state("{scale}", "annotations", "{study}", "{corruption}", "{annotation}"),
    message:
        "annotate {wildcards.corruption}, {wildcards.annotation} ({wildcards.scale})"
    shell:
        "{resources.run} annotate --spec {params.spec:q}"
        " --data {input.data:q} {params.classifier:q}"
        " --state {params.state:q} --out {output.table:q} --summary {output.summary:q} 2>&1 | keep {log:q}"


rule locality:
    input:
        data=locality_data,
        denoiser=locality_denoiser,
    output:
        table="results/{scale}/locality/{study}.csv",
        map="results/{scale}/locality/{study}.json",
    log:
        "results/{scale}/logs/locality/{study}.log",
    conda:
        "../../environment.yml"
    threads: THREADS
    resources:
        **resources("locality"),
    params:
        spec=spec("locality"),
        code=code("locality"),
    message:
        "measure crop(sigma) for {wildcards.study} ({wildcards.scale})"
    shell:
        "{resources.run} locality --spec {params.spec:q} --data {input.data:q}"
        " --denoiser {input.denoiser:q} --out {output.table:q} --map-out {output.map:q} 2>&1 | keep {log:q}"
