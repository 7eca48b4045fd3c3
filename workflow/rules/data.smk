rule prepare:
    """Raw data, checked, in the format that all other stages read."""
    input:
        unpack(reads("prepare")),
    output:
        **writes("prepare"),
    log:
        "results/{scale}/logs/prepare/{dataset}.log",
    priority: 3  # short, and everything waits for one
    conda:
        "../../environment.yml"
    resources:
        **resources("prepare"),
    params:
        **told("prepare"),
    message:
        "prepare {wildcards.dataset} ({wildcards.scale})"
    shell:
        "{resources.run} prepare --spec {params.spec:q} {params.files:q} 2>&1 | to_log {log:q}"


rule scores:
    """How good each image of a dataset is, by a scorer."""
    input:
        unpack(reads("scores")),
    output:
        **writes("scores"),
    log:
        "results/{scale}/logs/scores/{dataset}-{scorer}.log",
    conda:
        "../../environment.yml"
    threads: THREADS
    resources:
        **resources("scores"),
    params:
        **told("scores"),
    message:
        "score {wildcards.dataset} by {wildcards.scorer} ({wildcards.scale})"
    shell:
        "{resources.run} scores --spec {params.spec:q} {params.files:q} 2>&1 | to_log {log:q}"


rule corrupt:
    """A mixture: all images but a clean fraction corrupted, once and for all."""
    input:
        unpack(reads("corrupt")),
    output:
        **writes("corrupt"),
    log:
        "results/{scale}/logs/corrupt/{study}-{corruption}-{fraction}.log",
    priority: 3  # short, and every training waits for one
    conda:
        "../../environment.yml"
    resources:
        **resources("corrupt"),
    params:
        **told("corrupt"),
    message:
        "corrupt: {wildcards.corruption}, clean fraction {wildcards.fraction} ({wildcards.scale})"
    shell:
        "{resources.run} corrupt --spec {params.spec:q} {params.files:q} 2>&1 | to_log {log:q}"


rule combine:
    """Several mixtures of one target, each with its annotation, as one."""
    input:
        unpack(reads("combine")),
    output:
        **writes("combine"),
    log:
        "results/{scale}/logs/combine/{run}.log",
    conda:
        "../../environment.yml"
    resources:
        **resources("combine"),
    params:
        **told("combine"),
    message:
        "combine the data of {wildcards.run} ({wildcards.scale})"
    shell:
        "{resources.run} combine --spec {params.spec:q} {params.files:q} 2>&1 | to_log {log:q}"


rule encoder:
    """An encoder of images to latents, with its decoder."""
    input:
        unpack(reads("encoder")),
    output:
        **writes("encoder"),
    log:
        "results/{scale}/logs/encoder/{dataset}-{encoder}.log",
    priority: 2  # what the longest chains begin with
    conda:
        "../../environment.yml"
    threads: THREADS
    resources:
        **resources("encoder"),
    params:
        **told("encoder"),
    message:
        "make the encoder {wildcards.encoder} of {wildcards.dataset} ({wildcards.scale})"
    shell:
        "{resources.run} encoder --spec {params.spec:q} {params.files:q} 2>&1 | to_log {log:q}"


rule encode:
    """The latents of a mixture's images."""
    input:
        unpack(reads("encode")),
    output:
        **writes("encode"),
    log:
        "results/{scale}/logs/encode/{study}-{corruption}-{fraction}.log",
    priority: 2
    conda:
        "../../environment.yml"
    threads: THREADS
    resources:
        **resources("encode"),
    params:
        **told("encode"),
    message:
        "encode {wildcards.study}, {wildcards.corruption}, clean fraction {wildcards.fraction} ({wildcards.scale})"
    shell:
        "{resources.run} encode --spec {params.spec:q} {params.files:q} 2>&1 | to_log {log:q}"


rule text_encoder:
    """An encoder of captions to states."""
    input:
        unpack(reads("text_encoder")),
    output:
        **writes("text_encoder"),
    log:
        "results/{scale}/logs/text_encoder/{text_encoder}.log",
    priority: 2
    conda:
        "../../environment.yml"
    threads: THREADS
    resources:
        **resources("text_encoder"),
    params:
        **told("text_encoder"),
    message:
        "make the text encoder {wildcards.text_encoder} ({wildcards.scale})"
    shell:
        "{resources.run} text_encoder --spec {params.spec:q} {params.files:q} 2>&1 | to_log {log:q}"


rule texts:
    """The states of a dataset's captions."""
    input:
        unpack(reads("texts")),
    output:
        **writes("texts"),
    log:
        "results/{scale}/logs/texts/{dataset}-{text_encoder}.log",
    priority: 2
    conda:
        "../../environment.yml"
    threads: THREADS
    resources:
        **resources("texts"),
    params:
        **told("texts"),
    message:
        "encode the captions of {wildcards.dataset} by {wildcards.text_encoder} ({wildcards.scale})"
    shell:
        "{resources.run} texts --spec {params.spec:q} {params.files:q} 2>&1 | to_log {log:q}"
