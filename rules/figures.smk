# Figures and the tables behind them. Needs the cohort, splits and scores. Gives the figures of the
# report, each a target of its own, and the counts behind them.


use rule run_step as draw_attrition with:
    input:
        slides=paths.SLIDES_TABLE,
    output:
        figure=report(paths.ATTRITION_FIGURE, **in_report("attrition", "Attrition", "dataset")),
    log:
        "logs/{dataset}/draw_attrition.log",
    benchmark:
        "benchmarks/{dataset}/draw_attrition.tsv"
    params:
        **step("figures.figures.draw_attrition"),
        noun=get_noun,
    message:
        "Drawing which slides of {wildcards.dataset} are used"


use rule run_step as count_split with:
    input:
        split_file=paths.SPLIT,
        label_files=[paths.LABELS],
    output:
        counts=paths.SPLIT_COUNTS,
    log:
        "logs/{dataset}/count_split/{task}/{split}/{seed}.log",
    benchmark:
        "benchmarks/{dataset}/count_split/{task}/{split}/{seed}.tsv"
    params:
        **step("cohort.split_counts.count"),
        classes=get_classes,
    message:
        "Counting the groups and tiles of split {wildcards.split}, seed {wildcards.seed}, of {wildcards.dataset}"


use rule run_step as draw_splits with:
    input:
        counts=paths.SPLIT_COUNTS,
    output:
        figure=report(paths.SPLIT_FIGURE, **in_report("splits", "Splits", "split", "seed", subcategory="{dataset}")),
    log:
        "logs/{dataset}/draw_splits/{task}/{split}/{seed}.log",
    benchmark:
        "benchmarks/{dataset}/draw_splits/{task}/{split}/{seed}.tsv"
    params:
        **step("figures.figures.draw_splits"),
    message:
        "Drawing split {wildcards.split}, seed {wildcards.seed}, of {wildcards.dataset}"


use rule run_step as draw_scores with:
    input:
        scores=paths.SCORES,
    output:
        figure=report(paths.SCORES_FIGURE, **in_report("scores", "Scores", "dataset", "task", "split")),
    log:
        "logs/studies/{study}/draw_scores/{dataset}/{task}/{split}.log",
    benchmark:
        "benchmarks/studies/{study}/draw_scores/{dataset}/{task}/{split}.tsv"
    params:
        **step("figures.score_figures.draw_scores"),
        dataset="{dataset}",
        task="{task}",
        split="{split}",
        metric=HEADLINE,
        methods=[method.name for method in CONTENTS.methods],
    message:
        "Drawing the scores on {wildcards.dataset}, {wildcards.task}, split {wildcards.split}"


use rule run_step as draw_confusion with:
    input:
        confusions=paths_of_each_method(paths.CONFUSION),
        predictions=paths_of_each_method(paths.PREDICTIONS),
    output:
        figures=report(
            paths_of_each_method(paths.CONFUSION_FIGURE),
            **in_report("confusion", "Confusion", subcategory="{dataset}, {split}, seed {seed}"),
        ),
    log:
        "logs/{dataset}/draw_confusion/{task}/{split}/{seed}.log",
    benchmark:
        "benchmarks/{dataset}/draw_confusion/{task}/{split}/{seed}.tsv"
    params:
        **step("figures.score_figures.draw_confusion"),
    message:
        "Drawing the confusion matrices of {wildcards.dataset}, {wildcards.task}, {wildcards.split}, seed {wildcards.seed}"
