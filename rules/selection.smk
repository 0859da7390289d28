# Feature selection, inside the training groups. Needs features, labels and the split.
# Gives results/{dataset}/selections/{task}/{split}/{seed}/{features}/: nested subsets, and the curve of their scores;
# and for the study the mean curve, the share of features kept and the overlap between datasets.


use rule run_step as select_features with:
    input:
        **LEARNING_TABLES,
        features=paths_of_features,
    output:
        subsets=f"{paths.SELECTION}/subsets.h5",
        curve=f"{paths.SELECTION}/curve.tsv",
    log:
        "logs/{dataset}/select_features/{task}/{split}/{seed}/{features}.log",
    benchmark:
        "benchmarks/{dataset}/select_features/{task}/{split}/{seed}/{features}.tsv"
    wildcard_constraints:
        features=SELECTED,
    threads: 2
    resources:
        **REQUESTS.by(REQUESTS.selection),
    params:
        **step("classifiers.selection.select"),
        selection=pick(get_selection),
        feature_set=pick(get_feature_set, "definition"),
        classes=get_classes,
        split=pick(get_split),
        factors=get_factors,
        master_seed=STUDY.master_seed,
    message:
        "Selecting features of {wildcards.features}: {wildcards.dataset}, {wildcards.task}, seed {wildcards.seed}"


use rule run_step as tabulate_curve with:
    input:
        curves=lambda wildcards: paths.filled(
            f"{paths.SELECTION}/curve.tsv", RUNS.selections(wildcards.split, wildcards.features)
        ),
    output:
        table=f"{paths.SELECTION_CURVE}.csv",
    log:
        "logs/studies/{study}/tabulate_curve/{split}/{features}.log",
    benchmark:
        "benchmarks/studies/{study}/tabulate_curve/{split}/{features}.tsv"
    wildcard_constraints:
        features=SELECTED,
    params:
        **step("evaluation.overlap.curve"),
        runs=lambda wildcards: plain(RUNS.selections(wildcards.split, wildcards.features)),
    message:
        "Collecting the elimination curves of {wildcards.features}, split {wildcards.split}"


use rule run_step as draw_selection with:
    input:
        table=f"{paths.SELECTION_CURVE}.csv",
    output:
        figure=report(
            f"{paths.SELECTION_CURVE}.svg", **in_report("selection", "Feature selection", "features", "split")
        ),
    log:
        "logs/studies/{study}/draw_selection/{split}/{features}.log",
    benchmark:
        "benchmarks/studies/{study}/draw_selection/{split}/{features}.tsv"
    wildcard_constraints:
        features=SELECTED,
    params:
        **step("figures.layer_figures.draw_selection"),
    message:
        "Drawing the elimination curves of {wildcards.features}, split {wildcards.split}"


use rule run_step as tabulate_overlap with:
    input:
        subsets=lambda wildcards: paths.filled(f"{paths.SELECTION}/subsets.h5", RUNS.selections(wildcards.split)),
    output:
        pairs=f"{paths.OVERLAP}/pairs.csv",
        common=f"{paths.OVERLAP}/common.csv",
        kept=f"{paths.OVERLAP}/kept.csv",
    log:
        "logs/studies/{study}/tabulate_overlap/{split}.log",
    benchmark:
        "benchmarks/studies/{study}/tabulate_overlap/{split}.tsv"
    params:
        **step("evaluation.overlap.tabulate"),
        runs=lambda wildcards: plain(RUNS.selections(wildcards.split)),
    message:
        "Comparing the selected features of the datasets, split {wildcards.split}"
