for place, logs, suffix, scale in PLACES:

    rule:
        """A table of the paper as CSV, one row a run."""
        name:
            f"tables{suffix}"
        input:
            unpack(reads("tables")),
        output:
            **writes("tables", place),
        log:
            f"{logs}/table/{{table}}.log",
        conda:
            "../../environment.yml"
        resources:
            **resources("tables"),
        params:
            **told("tables"),
        message:
            f"{{wildcards.table}} ({scale})"
        shell:
            "{resources.run} tables --spec {params.spec:q} {params.files:q} 2>&1 | to_log {log:q}"

    rule:
        """A table with rows from outside below its own, and their figure."""
        name:
            f"comparison{suffix}"
        input:
            unpack(reads("comparison")),
        output:
            **writes("comparison", place),
        log:
            f"{logs}/comparison/{{table}}.log",
        conda:
            "../../environment.yml"
        resources:
            **resources("comparison"),
        params:
            **told("comparison"),
        message:
            f"{{wildcards.table}} with rows from outside ({scale})"
        shell:
            "{resources.run} comparison --spec {params.spec:q} {params.files:q} 2>&1 | to_log {log:q}"

    rule:
        """The figures of a table: distances, learning curves, classifiers, samples."""
        name:
            f"figures{suffix}"
        input:
            unpack(reads("figures")),
        output:
            **writes("figures", place),
        log:
            f"{logs}/figures/{{table}}.log",
        conda:
            "../../environment.yml"
        resources:
            **resources("figures"),
        params:
            **told("figures"),
        message:
            f"figures of {{wildcards.table}} ({scale})"
        shell:
            "{resources.run} figures --spec {params.spec:q} {params.files:q} 2>&1 | to_log {log:q}"

    rule:
        """The audit of a table as a page: every number back to raw data."""
        name:
            f"audit_page{suffix}"
        input:
            unpack(reads("audit_page")),
        output:
            **writes("audit_page", place),
        log:
            f"{logs}/audit/{{table}}.log",
        conda:
            "../../environment.yml"
        resources:
            **resources("audit_page"),
        params:
            **told("audit_page"),
        message:
            f"audit of {{wildcards.table}} ({scale})"
        shell:
            # Exit status 1 says that a link does not hold: the page shows which, and is wanted all the more.
            "( python -m ambient audit {input.table:q} --noted --html {output.out:q} || test $? = 1 ) 2>&1 "
            "| to_log {log:q}"
