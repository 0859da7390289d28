# Splits. Needs the cohort (and, where tiles are split, which tiles there are).
# Gives results/{dataset}/splits/{split}/{seed}.tsv: each group's set and fold.


rule split_groups:
    input:
        slides_table="results/{dataset}/slides.tsv",
        tile_files=tiles_to_split,
    output:
        split_file="results/{dataset}/splits/{split}/{seed}.tsv",
    log:
        "logs/{dataset}/split_groups/{split}/{seed}.log",
    benchmark:
        "benchmarks/{dataset}/split_groups/{split}/{seed}.tsv"
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("split_groups"),
    params:
        split=split_definition,
        split_seed=lambda wildcards: int(wildcards.seed),
        master_seed=STUDY.master_seed,
        tasks=labels_of_tasks,
        **step("cohort.splits.assign_groups"),
    message:
        "Splitting the groups of {wildcards.dataset} by {wildcards.split}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/run_step.py"
