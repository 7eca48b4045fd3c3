rule prepare:
    input:
        code=code("prepare"),
    output:
        "results/{scale}/data/{dataset}.safetensors",
    log:
        "results/{scale}/logs/prepare/{dataset}.log",
    conda:
        "../../environment.yml"
    resources:
        **resources("prepare"),
    params:
        spec=dataset_spec,
        raw=raw_option,
    message:
        "prepare {wildcards.dataset} ({wildcards.scale})"
    shell:
        "{resources.run} ambient.prepare --spec {params.spec:q} {params.raw:q} --out {output:q} 2>&1 | keep {log:q}"


rule corrupt:
    input:
        data=study_dataset,
        added=added_dataset,
        code=code("corrupt"),
    output:
        "results/{scale}/mixtures/{study}/{corruption}/clean-{fraction}.safetensors",
    log:
        "results/{scale}/logs/corrupt/{study}-{corruption}-{fraction}.log",
    conda:
        "../../environment.yml"
    resources:
        **resources("corrupt"),
    params:
        spec=mixture_spec,
        added=added_option,
    message:
        "corrupt: {wildcards.corruption}, clean fraction {wildcards.fraction} ({wildcards.scale})"
    shell:
        "{resources.run} ambient.corrupt --spec {params.spec:q} --data {input.data:q} {params.added:q}"
        " --out {output:q} 2>&1 | keep {log:q}"


rule combine:
    input:
        data=part_mixtures,
        annotations=part_annotations,
        code=code("combine"),
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
        spec=combine_spec,
    message:
        "combine the data of {wildcards.run} ({wildcards.scale})"
    shell:
        "{resources.run} ambient.combine --spec {params.spec:q} --data {input.data:q}"
        " --annotations {input.annotations:q} --out {output.data:q}"
        " --out-annotations {output.annotations:q} --summary {output.summary:q} 2>&1 | keep {log:q}"
