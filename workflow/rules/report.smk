rule table:
    input:
        metrics=table_runs("metrics.json"),
        annotations=table_summaries,
        code=code("tables"),
    output:
        report("results/{scale}/{table}.csv", caption="../report/table.rst", category="Tables"),
    log:
        "results/{scale}/logs/table/{table}.log",
    conda:
        "../../environment.yml"
    resources:
        **resources("table"),
    params:
        spec=table_spec,
    message:
        "{wildcards.table} ({wildcards.scale})"
    shell:
        "{resources.run} ambient.tables --spec {params.spec:q} --metrics {input.metrics}"
        " --annotations {input.annotations} --out {output} 2>&1 | keep {log}"


rule figures:
    input:
        table="results/{scale}/{table}.csv",
        metrics=table_runs("metrics.json"),
        samples=table_samples,
        losses=table_losses,
        reports=table_reports,
        annotations=table_annotations,
        code=code("figures"),
    output:
        pdf="results/{scale}/{table}.pdf",
        png=report("results/{scale}/{table}.png", caption="../report/figure.rst", category="Figures"),
        curves=report(
            "results/{scale}/{table}-curves.png", caption="../report/curves.rst", category="Figures"
        ),
        classifiers=report(
            "results/{scale}/{table}-classifiers.png",
            caption="../report/classifiers.rst",
            category="Figures",
        ),
        grid=report("results/{scale}/{table}-grid.png", caption="../report/grid.rst", category="Samples"),
    log:
        "results/{scale}/logs/figures/{table}.log",
    conda:
        "../../environment.yml"
    resources:
        **resources("table"),
    params:
        spec=table_spec,
    message:
        "figures of {wildcards.table} ({wildcards.scale})"
    shell:
        "{resources.run} ambient.figures --spec {params.spec:q} --table {input.table}"
        " --metrics {input.metrics} --samples {input.samples} --losses {input.losses} --reports {input.reports}"
        " --annotations {input.annotations} --out {output.png} --out-pdf {output.pdf}"
        " --out-curves {output.curves} --out-classifiers {output.classifiers}"
        " --out-grid {output.grid} 2>&1 | keep {log}"


rule audit_page:
    input:
        table="results/{scale}/{table}.csv",
        code=code("audit.cli"),
    output:
        report("results/{scale}/{table}-audit.html", caption="../report/audit.rst", category="Audit"),
    log:
        "results/{scale}/logs/audit/{table}.log",
    conda:
        "../../environment.yml"
    resources:
        **resources("table"),
    message:
        "audit of {wildcards.table} ({wildcards.scale})"
    shell:
        # Exit status 1 says that a link does not hold: the page shows which, and is wanted all the more.
        "( python -m ambient audit {input.table} --html {output} || test $? = 1 ) 2>&1 | keep {log}"


# The paper's scale has its tables and figures at results/ itself; all else is the same.


use rule table as table_of_paper with:
    output:
        report("results/{table}.csv", caption="../report/table.rst", category="Tables"),
    log:
        "results/paper/logs/table/{table}.log",
    message:
        "{wildcards.table} (paper)"


use rule figures as figures_of_paper with:
    input:
        table="results/{table}.csv",
        metrics=table_runs("metrics.json"),
        samples=table_samples,
        losses=table_losses,
        reports=table_reports,
        annotations=table_annotations,
        code=code("figures"),
    output:
        pdf="results/{table}.pdf",
        png=report("results/{table}.png", caption="../report/figure.rst", category="Figures"),
        curves=report("results/{table}-curves.png", caption="../report/curves.rst", category="Figures"),
        classifiers=report(
            "results/{table}-classifiers.png",
            caption="../report/classifiers.rst",
            category="Figures",
        ),
        grid=report("results/{table}-grid.png", caption="../report/grid.rst", category="Samples"),
    log:
        "results/paper/logs/figures/{table}.log",
    message:
        "figures of {wildcards.table} (paper)"


use rule audit_page as audit_page_of_paper with:
    input:
        table="results/{table}.csv",
        code=code("audit.cli"),
    output:
        report("results/{table}-audit.html", caption="../report/audit.rst", category="Audit"),
    log:
        "results/paper/logs/audit/{table}.log",
    message:
        "audit of {wildcards.table} (paper)"
