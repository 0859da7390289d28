# Report. Needs everything. Gives results/studies/{study}/report.html, one file that opens offline.


# The study whose pages are copied to results/.
DEFAULT_STUDY = "demo"


use rule run_step as write_report with:
    input:
        scores=in_study(paths.SCORES),
        slides_tables=expand(paths.SLIDES_TABLE, dataset=STUDY.datasets),
        split_counts=paths_of_entries(CONTENTS.split_counts()),
        descriptions=paths_of_entries(CONTENTS.descriptions()),
        predictions=RUNS.paths_of(paths.PREDICTIONS),
        figures=paths_of_entries(CONTENTS.figures()),
        tables=paths_of_entries(CONTENTS.tables()),
        friedman=paths_of_entries(CONTENTS.friedman_tests()),
        maps=CONTENTS.maps(),
        templates=TEMPLATES,
    output:
        page=report(in_study(paths.REPORT), **in_report("report", "Report")),
    log:
        f"logs/studies/{STUDY.name}/write_report.log",
    benchmark:
        f"benchmarks/studies/{STUDY.name}/write_report.tsv"
    params:
        **step("report.pages.write_report"),
        datasets=list(STUDY.datasets),
        split_counts_of=abouts_of_entries(CONTENTS.split_counts()),
        descriptions_of=[about["dataset"] for about in abouts_of_entries(CONTENTS.descriptions())],
        figures_of=abouts_of_entries(CONTENTS.figures()),
        tables_of=abouts_of_entries(CONTENTS.tables()),
        friedman_of=abouts_of_entries(CONTENTS.friedman_tests()),
        rules={
            "scores": "collect_scores",
            "slides_tables": "cohort",
            "split_counts": "count_split",
            "descriptions": "inspect_slide",
            "predictions": "train_classifier",
            "friedman": "friedman_test",
            "training": "train_network, attach_head",
            "maps": "write_maps",
        },
        trained=CONTENTS.trained(),
        map_methods=CONTENTS.map_methods(),
        study=STUDY.config["study"],
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
