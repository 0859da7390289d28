# Classifiers. Needs features, labels and the split.
# Gives results/{dataset}/models/{task}/{split}/{seed}/{features}/{classifier}/: model, predictions, tuning.


use rule run_step as train_classifier with:
    input:
        **LEARNING_TABLES,
        features=paths_of_features,
        selection=path_of_selection,
    output:
        model=f"{paths.RUN}/model.skops",
        predictions=paths.PREDICTIONS,
        tuning=f"{paths.RUN}/tuning.tsv",
    log:
        "logs/{dataset}/train_classifier/{task}/{split}/{seed}/{features}/{classifier}.log",
    benchmark:
        "benchmarks/{dataset}/train_classifier/{task}/{split}/{seed}/{features}/{classifier}.tsv"
    wildcard_constraints:
        features=TRAINED,
        classifier=ON_ROWS,
    threads: 2
    resources:
        **REQUESTS.by(REQUESTS.classifier),
    params:
        **step("classifiers.fitting.train"),
        classifier=pick(get_classifier),
        feature_set=pick(get_feature_set, "definition"),
        classes=get_classes,
        split=pick(get_split),
        factors=get_factors,
        master_seed=STUDY.master_seed,
    message:
        "Training {wildcards.classifier} on {wildcards.features}: {wildcards.dataset}, {wildcards.task}, seed {wildcards.seed}"


rule classifiers:
    input:
        RUNS.models(),
