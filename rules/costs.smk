# Costs. Needs the benchmark files of all jobs, which the report comes after. Gives cost.tsv and run.html, which are no
# part of the content.


rule collect_costs:
    input:
        after=f"results/studies/{STUDY.name}/report.html",
    output:
        cost=f"results/studies/{STUDY.name}/cost.tsv",
    log:
        f"logs/studies/{STUDY.name}/collect_costs.log",
    conda:
        "../envs/histotransfer.yaml"
    params:
        folders=[f"benchmarks/{name}" for name in ("drawn", *STUDY.datasets, f"studies/{STUDY.name}")],
        rule_order=[
            *("draw_slide", "inspect_slide", "tissue_mask", "tile_grid", "check_table", "tile_pixels", "part_pixels"),
            *("label_tiles", "label_part", "gather_labels", "cohort", "cohort_of_table", "split_groups"),
            *("extract_features", "train_classifier", "score", "collect_scores"),
        ],
        code=code("costs.collect"),
    message:
        "Collecting time and memory of every job"
    script:
        "../workflow_scripts/collect_costs.py"


rule draw_cost:
    input:
        cost=f"results/studies/{STUDY.name}/cost.tsv",
    output:
        figure=report(f"results/studies/{STUDY.name}/figures/cost.svg", caption="report/cost.rst", category="Cost"),
    log:
        f"logs/studies/{STUDY.name}/draw_cost.log",
    conda:
        "../envs/histotransfer.yaml"
    params:
        code=code("figures.draw_cost"),
    message:
        "Drawing time and memory"
    script:
        "../workflow_scripts/draw_cost.py"


rule write_run_page:
    input:
        cost=f"results/studies/{STUDY.name}/cost.tsv",
        figures=[f"results/studies/{STUDY.name}/figures/cost.svg"],
        templates=TEMPLATES,
    output:
        page=report(f"results/studies/{STUDY.name}/run.html", caption="report/run.rst", category="Report"),
    log:
        f"logs/studies/{STUDY.name}/write_run_page.log",
    conda:
        "../envs/histotransfer.yaml"
    params:
        figures_of=[{"section": "cost", "rule": "draw_cost"}],
        rules={"cost": "collect_costs"},
        study=STUDY.config["study"],
        code_version=VERSION,
        code=code("report.write_run_page"),
    message:
        "Writing what the run cost"
    script:
        "../workflow_scripts/write_run_page.py"
