# Feature selection, inside the training groups. Needs features, labels and the split.
# Gives results/{dataset}/selections/{task}/{split}/{seed}/{features}/: nested subsets, and the curve of their scores;
# and for the study the mean curve, the share of features kept and the overlap between datasets.


rule select_features:
    input:
        features=feature_files,
        labels=["results/{dataset}/labels/{task}.tsv"],
        slides_table="results/{dataset}/slides.tsv",
        split_file="results/{dataset}/splits/{split}/{seed}.tsv",
    output:
        subsets=f"{SELECTION}/subsets.h5",
        curve=f"{SELECTION}/curve.tsv",
    log:
        "logs/{dataset}/select_features/{task}/{split}/{seed}/{features}.log",
    benchmark:
        "benchmarks/{dataset}/select_features/{task}/{split}/{seed}/{features}.tsv"
    wildcard_constraints:
        features=SELECTED,
    conda:
        "../envs/histotransfer.yaml"
    threads: 2
    resources:
        **needed(of_selection),
    params:
        selection=lambda wildcards: STUDY.selections[STUDY.feature_sets[wildcards.features].selection],
        feature_set=lambda wildcards: STUDY.feature_sets[wildcards.features].definition,
        classes=classes,
        split=lambda wildcards: STUDY.splits[wildcards.split],
        dataset="{dataset}",
        task="{task}",
        split_name="{split}",
        features_name="{features}",
        split_seed=lambda wildcards: int(wildcards.seed),
        master_seed=STUDY.master_seed,
        **step("classifiers.selection.select"),
    message:
        "Selecting features of {wildcards.features}: {wildcards.dataset}, {wildcards.task}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/run_step.py"


rule tabulate_curve:
    input:
        curves=lambda wildcards: paths(of_selections("curve.tsv", wildcards.split, wildcards.features)),
    output:
        table="results/studies/{study}/selection/{split}/{features}.csv",
    log:
        "logs/studies/{study}/tabulate_curve/{split}/{features}.log",
    benchmark:
        "benchmarks/studies/{study}/tabulate_curve/{split}/{features}.tsv"
    wildcard_constraints:
        features=SELECTED,
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("tabulate_curve"),
    params:
        of=lambda wildcards: abouts(of_selections("curve.tsv", wildcards.split, wildcards.features)),
        **step("evaluation.overlap.curve"),
    message:
        "Collecting the elimination curves of {wildcards.features}, split {wildcards.split}"
    script:
        "../workflow_scripts/run_step.py"


rule draw_selection:
    input:
        table="results/studies/{study}/selection/{split}/{features}.csv",
    output:
        figure=report(
            "results/studies/{study}/selection/{split}/{features}.svg",
            caption="report/selection.rst",
            category="Feature selection",
            labels={"features": "{features}", "split": "{split}"},
        ),
    log:
        "logs/studies/{study}/draw_selection/{split}/{features}.log",
    benchmark:
        "benchmarks/studies/{study}/draw_selection/{split}/{features}.tsv"
    wildcard_constraints:
        features=SELECTED,
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("draw_selection"),
    params:
        **step("figures.layer_figures.draw_selection"),
    message:
        "Drawing the elimination curves of {wildcards.features}, split {wildcards.split}"
    script:
        "../workflow_scripts/run_step.py"


rule tabulate_overlap:
    input:
        subsets=lambda wildcards: paths(of_selections("subsets.h5", wildcards.split)),
    output:
        pairs="results/studies/{study}/selection/{split}/overlap/pairs.csv",
        common="results/studies/{study}/selection/{split}/overlap/common.csv",
        kept="results/studies/{study}/selection/{split}/overlap/kept.csv",
    log:
        "logs/studies/{study}/tabulate_overlap/{split}.log",
    benchmark:
        "benchmarks/studies/{study}/tabulate_overlap/{split}.tsv"
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("tabulate_overlap"),
    params:
        of=lambda wildcards: abouts(of_selections("subsets.h5", wildcards.split)),
        **step("evaluation.overlap.tabulate"),
    message:
        "Comparing the selected features of the datasets, split {wildcards.split}"
    script:
        "../workflow_scripts/run_step.py"
