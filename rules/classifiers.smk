# Classifiers. Needs features, labels and the split.
# Gives results/{dataset}/models/{task}/{split}/{seed}/{features}/{classifier}/: model, predictions, tuning.


rule train_classifier:
    input:
        features=feature_files,
        selection=selected_features,
        labels=["results/{dataset}/labels/{task}.tsv"],
        slides_table="results/{dataset}/slides.tsv",
        split_file="results/{dataset}/splits/{split}/{seed}.tsv",
    output:
        model=f"{RUN}/model.skops",
        predictions=f"{RUN}/predictions.h5",
        tuning=f"{RUN}/tuning.tsv",
    log:
        "logs/{dataset}/train_classifier/{task}/{split}/{seed}/{features}/{classifier}.log",
    benchmark:
        "benchmarks/{dataset}/train_classifier/{task}/{split}/{seed}/{features}/{classifier}.tsv"
    wildcard_constraints:
        features=TRAINED,
        classifier=ON_ROWS,
    conda:
        "../envs/histotransfer.yaml"
    threads: 2
    resources:
        **needed(of_classifier),
    params:
        classifier=lambda wildcards: STUDY.classifiers[wildcards.classifier],
        feature_set=lambda wildcards: STUDY.feature_sets[wildcards.features].definition,
        classes=classes,
        split=lambda wildcards: STUDY.splits[wildcards.split],
        dataset="{dataset}",
        task="{task}",
        split_name="{split}",
        features_name="{features}",
        classifier_name="{classifier}",
        split_seed=lambda wildcards: int(wildcards.seed),
        master_seed=STUDY.master_seed,
        **step("classifiers.fitting.train"),
    message:
        "Training {wildcards.classifier} on {wildcards.features}: {wildcards.dataset}, {wildcards.task}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/run_step.py"


rule classifiers:
    input:
        models(),
