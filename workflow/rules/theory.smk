for place, logs, suffix, scale in PLACES:

    rule:
        """Section 4 in one dimension, measured."""
        name:
            f"theory{suffix}"
        input:
            unpack(reads("theory")),
        output:
            **writes("theory", place),
        log:
            f"{logs}/theory/theory.log",
        conda:
            "../../environment.yml"
        resources:
            **resources("theory"),
        params:
            **told("theory"),
        message:
            f"section 4 in one dimension ({scale})"
        shell:
            "{resources.run} theory --spec {params.spec:q} {params.files:q} 2>&1 | to_log {log:q}"

    rule:
        """The figure of section 4."""
        name:
            f"theory_figure{suffix}"
        input:
            unpack(reads("theory_figure")),
        output:
            **writes("theory_figure", place),
        log:
            f"{logs}/theory/figure.log",
        conda:
            "../../environment.yml"
        resources:
            **resources("theory_figure"),
        params:
            **told("theory_figure"),
        message:
            f"figure of section 4 ({scale})"
        shell:
            "{resources.run} theory_figure --spec {params.spec:q} {params.files:q} 2>&1 | to_log {log:q}"
