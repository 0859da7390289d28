# Evaluation. Needs the predictions. Gives scores and confusion matrices beside each model, and one table a study.


use rule run_step as score with:
    input:
        predictions=paths.PREDICTIONS,
    output:
        scores=paths.RUN_SCORES,
        confusion=paths.CONFUSION,
    log:
        "logs/{dataset}/score/{task}/{split}/{seed}/{features}/{classifier}.log",
    benchmark:
        "benchmarks/{dataset}/score/{task}/{split}/{seed}/{features}/{classifier}.tsv"
    params:
        **step("evaluation.scores.score"),
        bootstrap=STUDY.evaluation.bootstrap,
        master_seed=STUDY.master_seed,
    message:
        "Scoring {wildcards.features}+{wildcards.classifier}: {wildcards.dataset}, {wildcards.task}, seed {wildcards.seed}"


use rule run_step as collect_scores with:
    input:
        scores=RUNS.paths_of(paths.RUN_SCORES),
        predictions=RUNS.paths_of(paths.PREDICTIONS),
    output:
        table=in_study(paths.SCORES),
    log:
        f"logs/studies/{STUDY.name}/collect_scores.log",
    benchmark:
        f"benchmarks/studies/{STUDY.name}/collect_scores.tsv"
    params:
        **step("evaluation.scores.collect"),
    message:
        "Collecting the scores of every run"
