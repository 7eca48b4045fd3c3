rule prepare:
    input:
        raw=dataset_path,
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
        "{resources.run} ambient.prepare --spec {params.spec:q} {params.raw} --out {output} 2>&1 | keep {log}"


rule corrupt:
    input:
        data=study_dataset,
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
    message:
        "corrupt: {wildcards.corruption}, clean fraction {wildcards.fraction} ({wildcards.scale})"
    shell:
        "{resources.run} ambient.corrupt --spec {params.spec:q} --data {input.data} --out {output} 2>&1 | keep {log}"
