# Ranking. Needs the table of scores, and the predictions.
# Gives for each comparison and split the average ranks over datasets and the differences to its reference, and for the
# study the best score of each strategy.


rule rank_methods:
    input:
        scores="results/studies/{study}/scores.tsv",
    output:
        ranks=f"{COMPARISON}/ranks.csv",
    log:
        "logs/studies/{study}/rank_methods/{comparison}/{split}.log",
    benchmark:
        "benchmarks/studies/{study}/rank_methods/{comparison}/{split}.tsv"
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("rank_methods"),
    params:
        methods=lambda wildcards: list(STUDY.comparisons[wildcards.comparison].methods),
        kinds=lambda wildcards: kinds(STUDY.comparisons[wildcards.comparison].methods),
        split="{split}",
        **step("evaluation.ranking.rank"),
    message:
        "Ranking the methods of {wildcards.comparison}, split {wildcards.split}"
    script:
        "../workflow_scripts/run_step.py"


rule draw_ranks:
    input:
        ranks=f"{COMPARISON}/ranks.csv",
    output:
        figure=report(
            f"{COMPARISON}/ranks.svg",
            caption="report/ranks.rst",
            category="Ranks",
            labels={"comparison": "{comparison}", "split": "{split}"},
        ),
    log:
        "logs/studies/{study}/draw_ranks/{comparison}/{split}.log",
    benchmark:
        "benchmarks/studies/{study}/draw_ranks/{comparison}/{split}.tsv"
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("draw_ranks"),
    params:
        title=lambda wildcards: STUDY.comparisons[wildcards.comparison].title,
        split="{split}",
        **step("figures.rank_figures.draw_ranks"),
    message:
        "Drawing the ranks of {wildcards.comparison}, split {wildcards.split}"
    script:
        "../workflow_scripts/run_step.py"


rule compare_methods:
    input:
        predictions=lambda wildcards: each_run(
            f"{RUN}/predictions.h5", STUDY.comparisons[wildcards.comparison].methods, wildcards.split
        ),
    output:
        table=f"{COMPARISON}/differences.csv",
    log:
        "logs/studies/{study}/compare_methods/{comparison}/{split}.log",
    benchmark:
        "benchmarks/studies/{study}/compare_methods/{comparison}/{split}.tsv"
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("compare_methods"),
    params:
        methods=lambda wildcards: list(STUDY.comparisons[wildcards.comparison].methods),
        reference=lambda wildcards: STUDY.comparisons[wildcards.comparison].reference,
        split="{split}",
        bootstrap=STUDY.evaluation["bootstrap"],
        master_seed=STUDY.master_seed,
        **step("evaluation.differences.compare"),
    message:
        "Resampling the differences between the methods of {wildcards.comparison}, split {wildcards.split}"
    script:
        "../workflow_scripts/run_step.py"


rule draw_differences:
    input:
        table=f"{COMPARISON}/differences.csv",
    output:
        figure=report(
            f"{COMPARISON}/differences.svg",
            caption="report/differences.rst",
            category="Differences",
            labels={"comparison": "{comparison}", "split": "{split}"},
        ),
    log:
        "logs/studies/{study}/draw_differences/{comparison}/{split}.log",
    benchmark:
        "benchmarks/studies/{study}/draw_differences/{comparison}/{split}.tsv"
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("draw_differences"),
    params:
        **step("figures.rank_figures.draw_differences"),
    message:
        "Drawing the differences of {wildcards.comparison}, split {wildcards.split}"
    script:
        "../workflow_scripts/run_step.py"
