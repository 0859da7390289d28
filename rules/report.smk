# Report. Needs everything. Gives results/studies/{study}/report.html, one file that opens offline.


rule write_report:
    input:
        scores=f"results/studies/{STUDY.name}/scores.tsv",
        slides_tables=expand("results/{dataset}/slides.tsv", dataset=STUDY.datasets),
        split_counts=paths(CONTENTS.split_counts()),
        descriptions=paths(CONTENTS.descriptions()),
        predictions=each_run(f"{RUN}/predictions.h5"),
        figures=paths(CONTENTS.figures()),
        tables=paths(CONTENTS.tables()),
        friedman=paths(CONTENTS.friedman_tests()),
        maps=CONTENTS.maps(),
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
        datasets=list(STUDY.datasets),
        split_counts_of=abouts(CONTENTS.split_counts()),
        descriptions_of=[about["dataset"] for about in abouts(CONTENTS.descriptions())],
        figures_of=abouts(CONTENTS.figures()),
        tables_of=abouts(CONTENTS.tables()),
        friedman_of=abouts(CONTENTS.friedman_tests()),
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
