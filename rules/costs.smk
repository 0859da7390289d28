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
    resources:
        **by_files("collect_costs"),
    params:
        folders=[f"benchmarks/{name}" for name in ("drawn", *STUDY.datasets, f"studies/{STUDY.name}")],
        rule_order=[
            *(
                "draw_slide",
                "draw_lesions",
                "draw_regions",
                "inspect_slide",
                "tissue_mask",
                "tile_grid",
                "check_table",
                "tile_pixels",
                "part_pixels",
            ),
            *(
                "label_tiles",
                "label_regions",
                "label_part",
                "gather_labels",
                "cohort",
                "cohort_of_table",
                "split_groups",
            ),
            *("extract_features", "train_head", "attach_head", "train_network", "extract_trained_features"),
            *("select_features", "train_classifier", "choose_layer", "slide_image", "train_unet", "train_end_to_end"),
            *("score", "collect_scores"),
        ],
        **step("evaluation.costs.collect"),
    message:
        "Collecting time and memory of every job"
    script:
        "../workflow_scripts/run_step.py"


rule draw_cost:
    input:
        cost=f"results/studies/{STUDY.name}/cost.tsv",
    output:
        figure=report(f"results/studies/{STUDY.name}/figures/cost.svg", caption="report/cost.rst", category="Cost"),
    log:
        f"logs/studies/{STUDY.name}/draw_cost.log",
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("draw_cost"),
    params:
        **step("figures.figures.draw_cost"),
    message:
        "Drawing time and memory"
    script:
        "../workflow_scripts/run_step.py"


rule cost_methods:
    input:
        scores=f"results/studies/{STUDY.name}/scores.tsv",
        after=f"results/studies/{STUDY.name}/report.html",
    output:
        table=f"results/studies/{STUDY.name}/costs/{{split}}/method_costs.csv",
    log:
        f"logs/studies/{STUDY.name}/cost_methods/{{split}}.log",
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("cost_methods"),
    params:
        methods={method.name: method_parts(method) for method in STUDY.methods},
        datasets={
            name: {"tasks": list(d.tasks), "shards": list(d.shards), "parts": d.parts}
            for name, d in STUDY.datasets.items()
        },
        split="{split}",
        seeds=list(STUDY.seeds),
        gpus=STUDY.gpus,
        extraction_rule="extract_features" if STUDY.pixels == "cache" else "stream_features",
        **step("evaluation.costs.of_methods"),
    message:
        "Collecting what each method costs, split {wildcards.split}"
    script:
        "../workflow_scripts/run_step.py"


rule draw_method_costs:
    input:
        table=f"results/studies/{STUDY.name}/costs/{{split}}/method_costs.csv",
    output:
        figure=report(
            f"results/studies/{STUDY.name}/costs/{{split}}/method_costs.svg",
            caption="report/method_costs.rst",
            category="Cost",
            labels={"split": "{split}"},
        ),
    log:
        f"logs/studies/{STUDY.name}/draw_method_costs/{{split}}.log",
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("draw_method_costs"),
    params:
        **step("figures.method_cost_figure.draw_method_costs"),
    message:
        "Drawing what each method costs, split {wildcards.split}"
    script:
        "../workflow_scripts/run_step.py"


rule write_run_page:
    input:
        files=[entry.path for entry in CONTENTS.costs()],
        templates=TEMPLATES,
    output:
        page=report(f"results/studies/{STUDY.name}/run.html", caption="report/run.rst", category="Report"),
    log:
        f"logs/studies/{STUDY.name}/write_run_page.log",
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("write_run_page"),
    params:
        entries=plain(CONTENTS.costs()),
        study=STUDY.name,
        code_version=VERSION,
        **step("report.run_page.write_run_page"),
    message:
        "Writing what the run cost"
    script:
        "../workflow_scripts/run_step.py"
