# Report. Needs everything. Gives results/studies/{study}/report.html, one file that opens offline.


rule write_report:
    input:
        files=[entry.path for entry in CONTENTS.entries()],
        templates=TEMPLATES,
    output:
        page=report(f"results/studies/{STUDY.name}/report.html", caption="report/report.rst", category="Report"),
    log:
        f"logs/studies/{STUDY.name}/write_report.log",
    benchmark:
        f"benchmarks/studies/{STUDY.name}/write_report.tsv"
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("write_report"),
    params:
        entries=plain(CONTENTS.entries()),
        trained=plain(CONTENTS.described_networks()),
        map_methods=plain(CONTENTS.described_methods()),
        config=STUDY.config,
        metric=HEADLINE,
        code_version=VERSION,
        **step("report.pages.write_report"),
    message:
        "Writing the report"
    script:
        "../workflow_scripts/run_step.py"


rule copy_pages:
    input:
        report=f"results/studies/{DEFAULT_STUDY}/report.html",
        run=f"results/studies/{DEFAULT_STUDY}/run.html",
    output:
        report="results/report.html",
        run="results/run.html",
    log:
        "logs/copy_pages.log",
    benchmark:
        "benchmarks/copy_pages.tsv"
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("copy_pages"),
    message:
        "Copying the default study's pages to results/"
    shell:
        "(cp {input.report} {output.report} && cp {input.run} {output.run}) 2> {log}"


rule report:
    input:
        f"results/studies/{STUDY.name}/report.html",
        f"results/studies/{STUDY.name}/run.html",
        ["results/report.html", "results/run.html"] if STUDY.name == DEFAULT_STUDY else [],
