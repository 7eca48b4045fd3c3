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
            report(f"{place}/{{table}}.csv", caption="../report/table.rst", category="Tables"),
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
            "{resources.run} ambient.tables --spec {params.spec:q} --metrics {input.metrics:q}"
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
            reports=table_reports,
            annotations=table_annotations,
        output:
            pdf=f"{place}/{{table}}.pdf",
            png=report(f"{place}/{{table}}.png", caption="../report/figure.rst", category="Figures"),
            curves=report(f"{place}/{{table}}-curves.png", caption="../report/curves.rst", category="Figures"),
            classifiers=report(
                f"{place}/{{table}}-classifiers.png",
                caption="../report/classifiers.rst",
                category="Figures",
            ),
            grid=report(f"{place}/{{table}}-grid.png", caption="../report/grid.rst", category="Samples"),
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
            "{resources.run} ambient.figures --spec {params.spec:q} --table {input.table:q}"
            " --metrics {input.metrics:q} --samples {input.samples:q} --losses {input.losses:q} --reports {input.reports:q}"
            " --annotations {input.annotations:q} --out {output.png:q} --out-pdf {output.pdf:q}"
            " --out-curves {output.curves:q} --out-classifiers {output.classifiers:q}"
            " --out-grid {output.grid:q} 2>&1 | keep {log:q}"

    rule:
        name:
            f"audit_page{suffix}"
        input:
            table=f"{place}/{{table}}.csv",
        output:
            report(f"{place}/{{table}}-audit.html", caption="../report/audit.rst", category="Audit"),
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
