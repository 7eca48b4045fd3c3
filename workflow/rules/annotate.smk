rule classifier:
    """The noise classifier of equation 3.1, or a classifier of crops (section 3.2)."""
    input:
        unpack(reads("classifier")),
    output:
        **writes("classifier"),
    log:
        "results/{scale}/logs/classify/{study}-{corruption}-{classifier}.log",
    priority: 2  # what the longest chains begin with
    conda:
        "../../environment.yml"
    threads: THREADS
    resources:
        **resources("classifier"),
    params:
        **told("classifier"),
    message:
        "train the noise classifier of {wildcards.corruption} ({wildcards.scale})"
    shell:
        "{resources.run} classifier --spec {params.spec:q} {params.files:q} 2>&1 | to_log {log:q}"


rule annotate:
    """sigma_min and sigma_max of every image of a mixture."""
    input:
        unpack(reads("annotate")),
    output:
        **writes("annotate"),
    log:
        "results/{scale}/logs/annotate/{study}-{corruption}-{annotation}.log",
    priority: 2
    conda:
        "../../environment.yml"
    threads: THREADS
    resources:
        **resources("annotate"),
    params:
        **told("annotate"),
    message:
        "annotate {wildcards.corruption}, {wildcards.annotation} ({wildcards.scale})"
    shell:
        "{resources.run} annotate --spec {params.spec:q} {params.files:q} 2>&1 | to_log {log:q}"


rule locality:
    """crop(sigma), the context that a trained denoiser needs, measured."""
    input:
        unpack(reads("locality")),
    output:
        **writes("locality"),
    log:
        "results/{scale}/logs/locality/{study}.log",
    conda:
        "../../environment.yml"
    threads: THREADS
    resources:
        **resources("locality"),
    params:
        **told("locality"),
    message:
        "measure crop(sigma) for {wildcards.study} ({wildcards.scale})"
    shell:
        "{resources.run} locality --spec {params.spec:q} {params.files:q} 2>&1 | to_log {log:q}"


rule patch_maps:
    """What the classifiers of crops say of each patch of the images that a figure shows."""
    input:
        unpack(reads("patch_maps")),
    output:
        **writes("patch_maps"),
    log:
        "results/{scale}/logs/patch-maps/{patches}.log",
    conda:
        "../../environment.yml"
    resources:
        **resources("patch_maps"),
    params:
        **told("patch_maps"),
    message:
        "patch probabilities for {wildcards.patches} ({wildcards.scale})"
    shell:
        "{resources.run} patch_maps --spec {params.spec:q} {params.files:q} 2>&1 | to_log {log:q}"


rule noise_floor:
    """The losses of clean images and of others near sigma_min, and the uncertainty that both share."""
    input:
        unpack(reads("noise_floor")),
    output:
        **writes("noise_floor"),
    log:
        "results/{scale}/logs/noise-floor/{floor}.log",
    conda:
        "../../environment.yml"
    threads: THREADS
    resources:
        **resources("noise_floor"),
    params:
        **told("noise_floor"),
    message:
        "measure the noise floor for {wildcards.floor} ({wildcards.scale})"
    shell:
        "{resources.run} noise_floor --spec {params.spec:q} {params.files:q} 2>&1 | to_log {log:q}"
