for place, logs, suffix, scale in PLACES:

    rule:
        name:
            f"table{suffix}"
        input:
            metrics=table_runs("metrics.json"),
            annotations=table_summaries,
            usable=table_usable,
            beside=table_beside,
        output:
            f"{place}/{{table}}.csv",
        log:
            f"{logs}/table/{{table}}.log",
        conda:
            "../../environment.yml"
        resources:
            **resources("table"),
        params:
            spec=spec("tables"),
            code=code("tables"),
        message:
            f"{{wildcards.table}} ({scale})"
        shell:
            "{resources.run} tables --spec {params.spec:q} --metrics {input.metrics:q}"
            " --annotations {input.annotations:q} --usable {input.usable:q} --beside {input.beside:q}"
            " --out {output:q} 2>&1 | keep {log:q}"

    rule:
        name:
            f"figures{suffix}"
        input:
            table=f"{place}/{{table}}.csv",
            metrics=table_runs("metrics.json"),
            samples=table_samples,
            losses=table_losses,
            mixtures=table_mixtures,
            reports=table_reports,
            annotations=table_annotations,
            summaries=table_summaries,
        output:
            png=f"{place}/{{table}}.png",
            pdf=f"{place}/{{table}}.pdf",
            curves=f"{place}/{{table}}-curves.png",
            curves_pdf=f"{place}/{{table}}-curves.pdf",
            classifiers=f"{place}/{{table}}-classifiers.png",
            classifiers_pdf=f"{place}/{{table}}-classifiers.pdf",
            grid=f"{place}/{{table}}-grid.png",
            grid_pdf=f"{place}/{{table}}-grid.pdf",
        log:
            f"{logs}/figures/{{table}}.log",
        conda:
            "../../environment.yml"
        resources:
            **resources("table"),
        params:
            spec=spec("figures"),
            code=code("figures"),
        message:
            f"figures of {{wildcards.table}} ({scale})"
        shell:
            "{resources.run} figures --spec {params.spec:q} --table {input.table:q}"
            " --metrics {input.metrics:q} --samples {input.samples:q} --losses {input.losses:q}"
            " --mixtures {input.mixtures:q} --reports {input.reports:q} --annotations {input.annotations:q}"
            " --summaries {input.summaries:q} --out {output.png:q} --out-pdf {output.pdf:q}"
            " --out-curves {output.curves:q} --out-curves-pdf {output.curves_pdf:q}"
            " --out-classifiers {output.classifiers:q} --out-classifiers-pdf {output.classifiers_pdf:q}"
            " --out-grid {output.grid:q} --out-grid-pdf {output.grid_pdf:q} 2>&1 | keep {log:q}"

    rule:
        name:
            f"audit_page{suffix}"
        input:
            table=f"{place}/{{table}}.csv",
        output:
            f"{place}/{{table}}-audit.html",
        log:
            f"{logs}/audit/{{table}}.log",
        conda:
            "../../environment.yml"
        resources:
            **resources("table"),
        params:
            code=code("audit.cli"),
        message:
            f"audit of {{wildcards.table}} ({scale})"
        shell:
            # Exit status 1 says that a link does not hold: the page shows which, and is wanted all the more.
            "( python -m ambient audit {input.table:q} --html {output:q} || test $? = 1 ) 2>&1 | keep {log:q}"
