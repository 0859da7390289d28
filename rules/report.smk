# Report. Needs everything. Gives results/studies/{study}/report.html, one file that opens offline.


# The study whose pages are copied to results/.
DEFAULT_STUDY = "demo"


use rule run_step as write_report with:
    input:
        files=[entry.path for entry in CONTENTS.entries()],
        templates=TEMPLATES,
    output:
        page=report(in_study(paths.REPORT), **in_report("report", "Report")),
    log:
        f"logs/studies/{STUDY.name}/write_report.log",
    benchmark:
        f"benchmarks/studies/{STUDY.name}/write_report.tsv"
    params:
        **step("report.pages.write_report"),
        entries=plain(CONTENTS.entries()),
        trained=plain(list(STUDY.trained.values())),
        map_methods=plain(CONTENTS.described_methods()),
        config=STUDY.config,
        metric=HEADLINE,
        code_version=VERSION,
    message:
        "Writing the report"


rule copy_pages:
    input:
        report=paths.REPORT.format(study=DEFAULT_STUDY),
        run=paths.RUN_PAGE.format(study=DEFAULT_STUDY),
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
        **REQUESTS.by_files(),
    message:
        "Copying the default study's pages to results/"
    shell:
        "(cp {input.report} {output.report} && cp {input.run} {output.run}) 2> {log}"


rule report:
    input:
        in_study(paths.REPORT),
        in_study(paths.RUN_PAGE),
        ["results/report.html", "results/run.html"] if STUDY.name == DEFAULT_STUDY else [],
