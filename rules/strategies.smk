# Strategies. Needs the table of scores, and the predictions.
# Gives the best score of each strategy and dataset with the variant chosen by validation beside it, and Friedman's test.


use rule run_step as tabulate_strategies with:
    input:
        scores=paths.SCORES,
        predictions=lambda wildcards: RUNS.paths_of(paths.PREDICTIONS, runs.variants(STUDY), wildcards.split),
    output:
        table=f"{paths.STRATEGIES}.csv",
    log:
        "logs/studies/{study}/tabulate_strategies/{split}.log",
    benchmark:
        "benchmarks/studies/{study}/tabulate_strategies/{split}.tsv"
    params:
        **step("evaluation.ranking.tabulate_strategies"),
        strategies=STUDY.strategies,
        split="{split}",
    message:
        "Finding the best variant of each strategy, split {wildcards.split}"


use rule run_step as friedman_test with:
    input:
        strategies_table=f"{paths.STRATEGIES}.csv",
    output:
        result=paths.FRIEDMAN,
    log:
        "logs/studies/{study}/friedman_test/{split}.log",
    benchmark:
        "benchmarks/studies/{study}/friedman_test/{split}.tsv"
    params:
        **step("evaluation.friedman.test"),
        tested=list(STUDY.friedman),
        split="{split}",
    message:
        "Testing whether the strategies differ, split {wildcards.split}"
