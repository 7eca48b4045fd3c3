rule train:
    """A denoiser of a mixture: each image is used at the noise levels that its annotation allows."""
    input:
        unpack(reads("train")),
    output:
        **writes("train"),
    log:
        "results/{scale}/logs/train/{run}-seed-{seed}.log",
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
