for place, logs, suffix, scale in PLACES:

    rule:
        name:
            f"theory{suffix}"
        output:
            table=f"{place}/theory.csv",
            crossings=f"{place}/theory-crossings.csv",
            contraction=f"{place}/theory-contraction.csv",
        log:
            f"{logs}/theory/theory.log",
        conda:
            "../../environment.yml"
        resources:
            **resources("table"),
        params:
            spec=spec("theory"),
            code=code("theory"),
        message:
            f"section 4 in one dimension ({scale})"
        shell:
            "{resources.run} theory --spec {params.spec:q} --out {output.table:q}"
            " --crossings-out {output.crossings:q} --contraction-out {output.contraction:q} 2>&1 | keep {log:q}"

    rule:
        name:
            f"theory_figure{suffix}"
        input:
            table=f"{place}/theory.csv",
            crossings=f"{place}/theory-crossings.csv",
            contraction=f"{place}/theory-contraction.csv",
        output:
            png=f"{place}/theory.png",
            pdf=f"{place}/theory.pdf",
        log:
            f"{logs}/theory/figure.log",
        conda:
            "../../environment.yml"
        resources:
            **resources("table"),
        params:
            spec=spec("theory_figure"),
            code=code("theory_figure"),
        message:
            f"figure of section 4 ({scale})"
        shell:
            "{resources.run} theory_figure --spec {params.spec:q} --table {input.table:q}"
            " --crossings {input.crossings:q} --contraction-table {input.contraction:q}"
            " --out {output.png:q} --out-pdf {output.pdf:q} 2>&1 | keep {log:q}"
