rule train:
    """A denoiser of a mixture: each image is used at the noise levels that its annotation allows."""
    input:
        unpack(reads("train")),
    output:
        **writes("train"),
    log:
        "results/{scale}/logs/train/{run}-seed-{seed}.log",
    priority: 1  # the longest job: sampling fills what the last training leaves free
    conda:
        "../../environment.yml"
    threads: THREADS
    resources:
        **resources("train"),
    params:
        **told("train"),
    message:
        "train {wildcards.run}, seed {wildcards.seed} ({wildcards.scale})"
    shell:
        "{resources.run} train --spec {params.spec:q} {params.files:q} 2>&1 | to_log {log:q}"


rule reconstruct:
    """The averages of a denoiser's weights of another width than those that its training kept."""
    input:
        unpack(reads("reconstruct")),
    output:
        **writes("reconstruct"),
    log:
        "results/{scale}/logs/reconstruct/{run}-seed-{seed}-ema-{ema_std}.log",
    conda:
        "../../environment.yml"
    threads: THREADS
    resources:
        **resources("reconstruct"),
    params:
        **told("reconstruct"),
    message:
        "average {wildcards.run}, seed {wildcards.seed}, width {wildcards.ema_std} ({wildcards.scale})"
    shell:
        "{resources.run} reconstruct --spec {params.spec:q} {params.files:q} 2>&1 | to_log {log:q}"
