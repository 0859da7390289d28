# Training of networks. Needs pixels (or features of the start, for the head), labels and the split.
# Gives results/{dataset}/models/{task}/{split}/{seed}/{network}/softmax/: the network as model.keras, predictions in the
# form of every strategy, its history by epoch and its learning curve by step. A killed job goes on from its last epoch.


TRAINING_PARAMS = dict(
    **LEARNING_PARAMS,
    network_name="{network}",
    recipe=pick(get_trained, "recipe"),
    arithmetic_threads=STUDY.training.threads,
    resume=paths.CHECKPOINTS,
)


use rule run_step as train_head with:
    input:
        **LEARNING_TABLES,
        features=paths_of_start_features,
    output:
        head=f"{paths.HEAD}/head.keras",
        predictions=f"{paths.HEAD}/predictions.h5",
        history=f"{paths.HEAD}/history.tsv",
        curve=f"{paths.HEAD}/curve.tsv",
    log:
        "logs/{dataset}/train_head/{task}/{split}/{seed}/{network}.log",
    benchmark:
        "benchmarks/{dataset}/train_head/{task}/{split}/{seed}/{network}.tsv"
    wildcard_constraints:
        network=ON_FEATURES,
    threads: STUDY.training.threads
    resources:
        **REQUESTS.by(REQUESTS.head),
        gpu=GPU,
    params:
        **TRAINING_PARAMS,
        **step("training.head_on_features.train_head"),
        feature_set=pick(get_trained, "start_features"),
    message:
        "Training the head of {wildcards.network} on features: {wildcards.dataset}, {wildcards.task}, {wildcards.split}, seed {wildcards.seed}"


use rule run_step as attach_head with:
    input:
        head=f"{paths.HEAD}/head.keras",
        head_predictions=f"{paths.HEAD}/predictions.h5",
        head_history=f"{paths.HEAD}/history.tsv",
        head_curve=f"{paths.HEAD}/curve.tsv",
        weights_file=path_of_weights,
    output:
        model=f"{paths.TRAINING}/model.keras",
        predictions=f"{paths.TRAINING}/predictions.h5",
        history=f"{paths.TRAINING}/history.tsv",
        curve=f"{paths.TRAINING}/curve.tsv",
    log:
        "logs/{dataset}/attach_head/{task}/{split}/{seed}/{network}.log",
    benchmark:
        "benchmarks/{dataset}/attach_head/{task}/{split}/{seed}/{network}.tsv"
    wildcard_constraints:
        network=HEAD_ONLY,
    params:
        **step("training.head_on_features.attach"),
        start=pick(get_trained, "start"),
        start_name=pick(get_trained, "start_name"),
        recipe=pick(get_trained, "recipe"),
        classes=get_classes,
        master_seed=STUDY.master_seed,
    message:
        "Putting the trained head of {wildcards.network} on its start: {wildcards.dataset}, {wildcards.task}, {wildcards.split}, seed {wildcards.seed}"


use rule run_step as train_network with:
    input:
        **LEARNING_TABLES,
        pixels=paths_of_training_pixels,
        head=path_of_head,
        weights_file=path_of_weights,
    output:
        model=f"{paths.TRAINING}/model.keras",
        predictions=f"{paths.TRAINING}/predictions.h5",
        history=f"{paths.TRAINING}/history.tsv",
        curve=f"{paths.TRAINING}/curve.tsv",
    log:
        "logs/{dataset}/train_network/{task}/{split}/{seed}/{network}.log",
    benchmark:
        "benchmarks/{dataset}/train_network/{task}/{split}/{seed}/{network}.tsv"
    wildcard_constraints:
        network=ON_TILES,
    threads: STUDY.training.threads
    resources:
        **REQUESTS.by(REQUESTS.training),
        gpu=GPU,
    params:
        **TRAINING_PARAMS,
        **step("training.network_on_tiles.train_network"),
        start=pick(get_trained, "start"),
        start_name=pick(get_trained, "start_name"),
    message:
        "Training {wildcards.network}: {wildcards.dataset}, {wildcards.task}, {wildcards.split}, seed {wildcards.seed}"


rule networks:
    input:
        RUNS.trainings(f"{paths.TRAINING}/model.keras"),
