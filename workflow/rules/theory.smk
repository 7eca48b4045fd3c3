rule theory:
    input:
        code=code("theory"),
    output:
        table=report("{folder}/theory.csv", caption="../report/theory.rst", category="Theory"),
        crossings=report("{folder}/theory-crossings.csv", caption="../report/theory.rst", category="Theory"),
        contraction="{folder}/theory-contraction.csv",
    log:
        "{folder}/logs/theory/theory.log",
    conda:
        "../../environment.yml"
    resources:
        **resources("table"),
    params:
        spec=theory_spec,
    message:
        "section 4 in one dimension ({wildcards.folder})"
    shell:
        "{resources.run} ambient.theory --spec {params.spec:q} --out {output.table}"
        " --crossings-out {output.crossings} --contraction-out {output.contraction} 2>&1 | keep {log}"


rule theory_figure:
    input:
        table="{folder}/theory.csv",
        crossings="{folder}/theory-crossings.csv",
        contraction="{folder}/theory-contraction.csv",
        code=code("theory_figure"),
    output:
        png=report("{folder}/theory.png", caption="../report/theory.rst", category="Theory"),
        pdf="{folder}/theory.pdf",
    log:
        "{folder}/logs/theory/figure.log",
    conda:
        "../../environment.yml"
    resources:
        **resources("table"),
    params:
        spec=theory_spec,
    message:
        "figure of section 4 ({wildcards.folder})"
    shell:
        "{resources.run} ambient.theory_figure --spec {params.spec:q} --table {input.table}"
        " --crossings {input.crossings} --contraction-table {input.contraction}"
        " --out {output.png} --out-pdf {output.pdf} 2>&1 | keep {log}"
