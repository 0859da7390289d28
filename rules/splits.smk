# Splits. Needs the cohort (and, where tiles are split, which tiles there are).
# Gives results/{dataset}/splits/{split}/{seed}.tsv: each group's set and fold.


use rule run_step as split_groups with:
    input:
        slides_table=paths.SLIDES_TABLE,
        tile_files=paths_of_tiles_to_split,
    output:
        split_file=paths.SPLIT,
    log:
        "logs/{dataset}/split_groups/{split}/{seed}.log",
    benchmark:
        "benchmarks/{dataset}/split_groups/{split}/{seed}.tsv"
    params:
        **step("cohort.splits.assign_groups"),
        split=pick_keys(get_split, "unit", "test", "validation", "folds", "groups", "share_groups", "stratify"),
        split_seed=get_number("seed"),
        master_seed=STUDY.master_seed,
        tasks=get_labels_of_tasks,
    message:
        "Splitting the groups of {wildcards.dataset} by {wildcards.split}, seed {wildcards.seed}"
