rule train:
    input:
        data=run_mixture,
        annotations=run_annotations,
    output:
        denoiser="results/{scale}/runs/{run}/seed-{seed}/denoiser.safetensors",
        losses="results/{scale}/runs/{run}/seed-{seed}/loss.jsonl",
    log:
        "results/{scale}/logs/train/{run}-seed-{seed}.log",
    conda:
        "../../environment.yml"
    threads: THREADS
    resources:
        **resources("train"),
    params:
        spec=spec("train"),
        code=code("train"),
        state=state("{scale}", "runs", "{run}", "seed-{seed}", "train"),
    message:
        "train {wildcards.run}, seed {wildcards.seed} ({wildcards.scale})"
    shell:
        "{resources.run} train --spec {params.spec:q} --data {input.data:q}"
        " --annotations {input.annotations:q} --state {params.state:q}"
        " --out {output.denoiser:q} --log {output.losses:q} 2>&1 | keep {log:q}"
