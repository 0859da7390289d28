# Strategies. Needs the table of scores, and the predictions.
# Gives the best score of each strategy and dataset with the variant chosen by validation beside it, and Friedman's test.


rule tabulate_strategies:
    input:
        scores="results/studies/{study}/scores.tsv",
        predictions=lambda wildcards: each_run(f"{RUN}/predictions.h5", variants(), wildcards.split),
    output:
        table="results/studies/{study}/strategies/{split}/strategies.csv",
    log:
        "logs/studies/{study}/tabulate_strategies/{split}.log",
    benchmark:
        "benchmarks/studies/{study}/tabulate_strategies/{split}.tsv"
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("tabulate_strategies"),
    params:
        strategies=STUDY.strategies,
        split="{split}",
        **step("evaluation.ranking.tabulate_strategies"),
    message:
        "Finding the best variant of each strategy, split {wildcards.split}"
    script:
        "../workflow_scripts/run_step.py"


rule friedman_test:
    input:
        strategies_table="results/studies/{study}/strategies/{split}/strategies.csv",
    output:
        result="results/studies/{study}/strategies/{split}/friedman.json",
    log:
        "logs/studies/{study}/friedman_test/{split}.log",
    benchmark:
        "benchmarks/studies/{study}/friedman_test/{split}.tsv"
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("friedman_test"),
    params:
        tested=list(STUDY.friedman),
        split="{split}",
        **step("evaluation.friedman.test"),
    message:
        "Testing whether the strategies differ, split {wildcards.split}"
    script:
        "../workflow_scripts/run_step.py"
