for place, logs, suffix, scale in PLACES:

    rule:
        name:
            f"gallery{suffix}"
        input:
            data=gallery_data,
            reports=gallery_reports,
            annotations=gallery_annotations,
        output:
            png=f"{place}/{{gallery}}.png",
            pdf=f"{place}/{{gallery}}.pdf",
        log:
            f"{logs}/figures/{{gallery}}.log",
        conda:
            "../../environment.yml"
        resources:
            **resources("table"),
        params:
            spec=spec("galleries"),
            code=code("galleries"),
        message:
            f"{{wildcards.gallery}} ({scale})"
        shell:
            "{resources.run} galleries --spec {params.spec:q}"
            " --data {input.data:q} --reports {input.reports:q}"
            " --annotations {input.annotations:q} --out {output.png:q} --out-pdf {output.pdf:q} 2>&1 | keep {log:q}"

    rule:
        name:
            f"crops_figure{suffix}"
        input:
            unpack(figure_inputs),
        output:
            png=f"{place}/{{figure}}.png",
            pdf=f"{place}/{{figure}}.pdf",
        log:
            f"{logs}/figures/{{figure}}.log",
        conda:
            "../../environment.yml"
        resources:
            **resources("table"),
        params:
            spec=spec("crops_figures"),
            code=code("crops_figures"),
            options=figure_options,
        message:
            f"{{wildcards.figure}} ({scale})"
        shell:
            "{resources.run} crops_figures --spec {params.spec:q} {params.options:q}"
            " --out {output.png:q} --out-pdf {output.pdf:q} 2>&1 | keep {log:q}"

    rule:
        name:
            f"summary{suffix}"
        input:
            tables=summary_tables,
            logs=summary_logs,
            reports=summary_reports,
        output:
            f"{place}/summary.csv",
        log:
            f"{logs}/table/summary.log",
        conda:
            "../../environment.yml"
        resources:
            **resources("table"),
        params:
            spec=spec("summary"),
            code=code("summary"),
        message:
            f"every number beside the paper's ({scale})"
        shell:
            "{resources.run} summary --spec {params.spec:q} --tables {input.tables:q}"
            " --logs {input.logs:q} --reports {input.reports:q} --out {output:q} 2>&1 | keep {log:q}"

    rule:
        name:
            f"report{suffix}"
        input:
            tables=report_tables,
            pictures=report_pictures,
        output:
            f"{place}/{{page}}.html",
        log:
            f"{logs}/report/{{page}}.log",
        conda:
            "../../environment.yml"
        resources:
            **resources("table"),
        params:
            spec=spec("report"),
            code=code("report"),
        message:
            f"{{wildcards.page}} ({scale})"
        shell:
            "{resources.run} report --spec {params.spec:q} --tables {input.tables:q}"
            " --pictures {input.pictures:q} --out {output:q} 2>&1 | keep {log:q}"
