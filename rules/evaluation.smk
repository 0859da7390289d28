# Evaluation. Needs the predictions. Gives scores and confusion matrices beside each model, and one table a study.


rule score:
    input:
        predictions=f"{RUN}/predictions.h5",
    output:
        scores=f"{RUN}/scores.tsv",
        confusion=f"{RUN}/confusion.tsv",
    log:
        "logs/{dataset}/score/{task}/{split}/{seed}/{features}/{classifier}.log",
    benchmark:
        "benchmarks/{dataset}/score/{task}/{split}/{seed}/{features}/{classifier}.tsv"
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("score"),
    params:
        bootstrap=STUDY.evaluation["bootstrap"],
        master_seed=STUDY.master_seed,
        **step("evaluation.scores.score"),
    message:
        "Scoring {wildcards.features}+{wildcards.classifier}: {wildcards.dataset}, {wildcards.task}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/run_step.py"


rule collect_scores:
    input:
        scores=each_run(f"{RUN}/scores.tsv"),
        predictions=each_run(f"{RUN}/predictions.h5"),
    output:
        table=f"results/studies/{STUDY.name}/scores.tsv",
    log:
        f"logs/studies/{STUDY.name}/collect_scores.log",
    benchmark:
        f"benchmarks/studies/{STUDY.name}/collect_scores.tsv"
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("collect_scores"),
    params:
        **step("evaluation.scores.collect"),
    message:
        "Collecting the scores of every run"
    script:
        "../workflow_scripts/run_step.py"
