# Figures and the tables behind them. Needs the cohort, splits and scores. Gives the figures of the
# report, each a target of its own, and the counts behind them.


rule draw_attrition:
    input:
        slides="results/{dataset}/slides.tsv",
    output:
        figure=report(
            "results/{dataset}/figures/attrition.svg",
            caption="report/attrition.rst",
            category="Attrition",
            labels={"dataset": "{dataset}"},
        ),
    log:
        "logs/{dataset}/draw_attrition.log",
    benchmark:
        "benchmarks/{dataset}/draw_attrition.tsv"
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("draw_attrition"),
    params:
        noun=noun,
        **step("figures.figures.draw_attrition"),
    message:
        "Drawing which slides of {wildcards.dataset} are used"
    script:
        "../workflow_scripts/run_step.py"


rule count_split:
    input:
        split_file="results/{dataset}/splits/{split}/{seed}.tsv",
        label_files=["results/{dataset}/labels/{task}.tsv"],
    output:
        counts="results/{dataset}/counts/{task}/{split}/{seed}.tsv",
    log:
        "logs/{dataset}/count_split/{task}/{split}/{seed}.log",
    benchmark:
        "benchmarks/{dataset}/count_split/{task}/{split}/{seed}.tsv"
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("count_split"),
    params:
        classes=classes,
        **step("cohort.split_counts.count"),
    message:
        "Counting the groups and tiles of split {wildcards.split}, seed {wildcards.seed}, of {wildcards.dataset}"
    script:
        "../workflow_scripts/run_step.py"


rule draw_splits:
    input:
        counts="results/{dataset}/counts/{task}/{split}/{seed}.tsv",
    output:
        figure=report(
            "results/{dataset}/figures/{task}/{split}/{seed}/split.svg",
            caption="report/splits.rst",
            category="Splits",
            subcategory="{dataset}",
            labels={"split": "{split}", "seed": "{seed}"},
        ),
    log:
        "logs/{dataset}/draw_splits/{task}/{split}/{seed}.log",
    benchmark:
        "benchmarks/{dataset}/draw_splits/{task}/{split}/{seed}.tsv"
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("draw_splits"),
    params:
        **step("figures.figures.draw_splits"),
    message:
        "Drawing split {wildcards.split}, seed {wildcards.seed}, of {wildcards.dataset}"
    script:
        "../workflow_scripts/run_step.py"


rule draw_scores:
    input:
        scores="results/studies/{study}/scores.tsv",
    output:
        figure=report(
            "results/studies/{study}/figures/{dataset}/{task}/{split}/scores.svg",
            caption="report/scores.rst",
            category="Scores",
            labels={"dataset": "{dataset}", "task": "{task}", "split": "{split}"},
        ),
    log:
        "logs/studies/{study}/draw_scores/{dataset}/{task}/{split}.log",
    benchmark:
        "benchmarks/studies/{study}/draw_scores/{dataset}/{task}/{split}.tsv"
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("draw_scores"),
    params:
        dataset="{dataset}",
        task="{task}",
        split="{split}",
        metric=HEADLINE,
        methods=[method.name for method in CONTENTS.methods],
        **step("figures.score_figures.draw_scores"),
    message:
        "Drawing the scores on {wildcards.dataset}, {wildcards.task}, split {wildcards.split}"
    script:
        "../workflow_scripts/run_step.py"


rule draw_confusion:
    input:
        confusions=of_each_method(f"{RUN}/confusion.tsv"),
        predictions=of_each_method(f"{RUN}/predictions.h5"),
    output:
        figures=report(
            of_each_method(f"{RUN}/confusion.svg"),
            caption="report/confusion.rst",
            category="Confusion",
            subcategory="{dataset}, {split}, seed {seed}",
        ),
    log:
        "logs/{dataset}/draw_confusion/{task}/{split}/{seed}.log",
    benchmark:
        "benchmarks/{dataset}/draw_confusion/{task}/{split}/{seed}.tsv"
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("draw_confusion"),
    params:
        **step("figures.score_figures.draw_confusion"),
    message:
        "Drawing the confusion matrices of {wildcards.dataset}, {wildcards.task}, {wildcards.split}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/run_step.py"
