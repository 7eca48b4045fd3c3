rule gallery:
    input:
        data=gallery_data,
        reports=gallery_reports,
        code=code("galleries"),
    output:
        png=report("{folder}/{gallery}.png", caption="../report/gallery.rst", category="Figures"),
        pdf="{folder}/{gallery}.pdf",
    log:
        "{folder}/logs/figures/{gallery}.log",
    conda:
        "../../environment.yml"
    resources:
        **resources("table"),
    params:
        spec=figure_spec,
    message:
        "{wildcards.gallery} ({wildcards.folder})"
    shell:
        "{resources.run} ambient.galleries --spec {params.spec:q} --data {input.data} --reports {input.reports}"
        " --out {output.png} --out-pdf {output.pdf} 2>&1 | keep {log}"


rule crops_figure:
    input:
        unpack(figure_inputs),
        code=code("crops_figures"),
    output:
        png=report("{folder}/{figure}.png", caption="../report/crops.rst", category="Figures"),
        pdf="{folder}/{figure}.pdf",
    log:
        "{folder}/logs/figures/{figure}.log",
    conda:
        "../../environment.yml"
    resources:
        **resources("table"),
    params:
        spec=figure_spec,
        options=figure_options,
    message:
        "{wildcards.figure} ({wildcards.folder})"
    shell:
        "{resources.run} ambient.crops_figures --spec {params.spec:q} {params.options}"
        " --out {output.png} --out-pdf {output.pdf} 2>&1 | keep {log}"


rule summary:
    input:
        tables=summary_tables,
        code=code("summary"),
    output:
        report("{folder}/summary.csv", caption="../report/summary.rst", category="Summary"),
    log:
        "{folder}/logs/table/summary.log",
    conda:
        "../../environment.yml"
    resources:
        **resources("table"),
    params:
        spec=summary_spec,
    message:
        "every number beside the paper's ({wildcards.folder})"
    shell:
        "{resources.run} ambient.summary --spec {params.spec:q} --tables {input.tables} --out {output}"
        " 2>&1 | keep {log}"
