# Ranking. Needs the table of scores, and the predictions.
# Gives for each comparison and split the average ranks over datasets and the differences to its reference, and for the
# study the best score of each strategy.


use rule run_step as rank_methods with:
    input:
        scores=paths.SCORES,
    output:
        ranks=f"{paths.RANKS}.csv",
    log:
        "logs/studies/{study}/rank_methods/{comparison}/{split}.log",
    benchmark:
        "benchmarks/studies/{study}/rank_methods/{comparison}/{split}.tsv"
    params:
        **step("evaluation.ranking.rank"),
        methods=lambda wildcards: list(get_comparison(wildcards).methods),
        kinds=lambda wildcards: runs.kinds(STUDY, get_comparison(wildcards).methods),
        split="{split}",
    message:
        "Ranking the methods of {wildcards.comparison}, split {wildcards.split}"


use rule run_step as draw_ranks with:
    input:
        ranks=f"{paths.RANKS}.csv",
    output:
        figure=report(f"{paths.RANKS}.svg", **in_report("ranks", "Ranks", "comparison", "split")),
    log:
        "logs/studies/{study}/draw_ranks/{comparison}/{split}.log",
    benchmark:
        "benchmarks/studies/{study}/draw_ranks/{comparison}/{split}.tsv"
    params:
        **step("figures.rank_figures.draw_ranks"),
        title=pick(get_comparison, "title"),
        split="{split}",
    message:
        "Drawing the ranks of {wildcards.comparison}, split {wildcards.split}"


use rule run_step as compare_methods with:
    input:
        predictions=lambda wildcards: RUNS.paths_of(
            paths.PREDICTIONS, get_comparison(wildcards).methods, wildcards.split
        ),
    output:
        table=f"{paths.DIFFERENCES}.csv",
    log:
        "logs/studies/{study}/compare_methods/{comparison}/{split}.log",
    benchmark:
        "benchmarks/studies/{study}/compare_methods/{comparison}/{split}.tsv"
    params:
        **step("evaluation.differences.compare"),
        methods=lambda wildcards: list(get_comparison(wildcards).methods),
        reference=pick(get_comparison, "reference"),
        split="{split}",
        bootstrap=STUDY.evaluation.bootstrap,
        master_seed=STUDY.master_seed,
    message:
        "Resampling the differences between the methods of {wildcards.comparison}, split {wildcards.split}"


use rule run_step as draw_differences with:
    input:
        table=f"{paths.DIFFERENCES}.csv",
    output:
        figure=report(f"{paths.DIFFERENCES}.svg", **in_report("differences", "Differences", "comparison", "split")),
    log:
        "logs/studies/{study}/draw_differences/{comparison}/{split}.log",
    benchmark:
        "benchmarks/studies/{study}/draw_differences/{comparison}/{split}.tsv"
    params:
        **step("figures.rank_figures.draw_differences"),
    message:
        "Drawing the differences of {wildcards.comparison}, split {wildcards.split}"
