for place, logs, suffix, scale in PLACES:

    rule:
        """A figure of corruptions and noise."""
        name:
            f"galleries{suffix}"
        input:
            unpack(reads("galleries")),
        output:
            **writes("galleries", place),
        log:
            f"{logs}/figures/{{gallery}}.log",
        conda:
            "../../environment.yml"
        resources:
            **resources("galleries"),
        params:
            **told("galleries"),
        message:
            f"{{wildcards.gallery}} ({scale})"
        shell:
            "{resources.run} galleries --spec {params.spec:q} {params.files:q} 2>&1 | to_log {log:q}"

    rule:
        """A figure of a run's data, of scores, tables or samples, or of a judge's answers."""
        name:
            f"crops_figures{suffix}"
        input:
            unpack(reads("crops_figures")),
        output:
            **writes("crops_figures", place),
        log:
            f"{logs}/figures/{{figure}}.log",
        conda:
            "../../environment.yml"
        resources:
            **resources("crops_figures"),
        params:
            **told("crops_figures"),
        message:
            f"{{wildcards.figure}} ({scale})"
        shell:
            "{resources.run} crops_figures --spec {params.spec:q} {params.files:q} 2>&1 | to_log {log:q}"

    rule:
        """Every number of a scale's tables beside the paper's."""
        name:
            f"summary{suffix}"
        input:
            unpack(reads("summary")),
        output:
            **writes("summary", place),
        log:
            f"{logs}/table/summary.log",
        conda:
            "../../environment.yml"
        resources:
            **resources("summary"),
        params:
            **told("summary"),
        message:
            f"every number beside the paper's ({scale})"
        shell:
            "{resources.run} summary --noted --spec {params.spec:q} {params.files:q} 2>&1 | to_log {log:q}"

    rule:
        """One page with the tables, the figures and what they say."""
        name:
            f"report{suffix}"
        input:
            unpack(reads("report")),
        output:
            **writes("report", place),
        log:
            f"{logs}/report/{{page}}.log",
        conda:
            "../../environment.yml"
        resources:
            **resources("report"),
        params:
            **told("report"),
        message:
            f"{{wildcards.page}} ({scale})"
        shell:
            "{resources.run} report --noted --spec {params.spec:q} {params.files:q} 2>&1 | to_log {log:q}"
