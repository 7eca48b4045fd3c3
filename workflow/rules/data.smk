rule prepare:
    output:
        "results/{scale}/data/{dataset}.safetensors",
    log:
        "results/{scale}/logs/prepare/{dataset}.log",
    conda:
        "../../environment.yml"
    resources:
        **resources("prepare"),
    params:
        spec=spec("prepare"),
        code=code("prepare"),
        raw=raw_option,
    message:
        "prepare {wildcards.dataset} ({wildcards.scale})"
    shell:
        "{resources.run} prepare --spec {params.spec:q}"
        " {params.raw:q} --out {output:q} 2>&1 | keep {log:q}"


rule corrupt:
    input:
        data=study_dataset,
        added=added_dataset,
    output:
        "results/{scale}/mixtures/{study}/{corruption}/clean-{fraction}.safetensors",
    log:
        "results/{scale}/logs/corrupt/{study}-{corruption}-{fraction}.log",
    conda:
        "../../environment.yml"
    resources:
        **resources("corrupt"),
    params:
        spec=spec("corrupt"),
        code=code("corrupt"),
        added=added_option,
    message:
        "corrupt: {wildcards.corruption}, clean fraction {wildcards.fraction} ({wildcards.scale})"
    shell:
        "{resources.run} corrupt --spec {params.spec:q} --data {input.data:q} {params.added:q}"
        " --out {output:q} 2>&1 | keep {log:q}"


rule combine:
    input:
        data=part_mixtures,
        annotations=part_annotations,
    output:
        data="results/{scale}/combined/{run}.safetensors",
        annotations="results/{scale}/combined/{run}-annotations.safetensors",
        summary="results/{scale}/combined/{run}-annotations.json",
    log:
        "results/{scale}/logs/combine/{run}.log",
    conda:
        "../../environment.yml"
    resources:
        **resources("combine"),
    params:
        spec=spec("combine"),
        code=code("combine"),
    message:
        "combine the data of {wildcards.run} ({wildcards.scale})"
    shell:
        "{resources.run} combine --spec {params.spec:q} --data {input.data:q}"
        " --annotations {input.annotations:q} --out {output.data:q}"
        " --out-annotations {output.annotations:q} --summary {output.summary:q} 2>&1 | keep {log:q}"
