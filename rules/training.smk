# Training of networks. Needs pixels (or features of the start, for the head), labels and the split.
# Gives results/{dataset}/models/{task}/{split}/{seed}/{network}/softmax/: the network as model.keras, predictions in the
# form of every strategy, its history by epoch and its learning curve by step. A killed job goes on from its last epoch.

TRAINING_FACTORS = dict(
    network_name="{network}",
    recipe=of_trained("recipe"),
    classes=classes,
    split=lambda wildcards: STUDY.splits[wildcards.split],
    dataset="{dataset}",
    task="{task}",
    split_name="{split}",
    split_seed=lambda wildcards: int(wildcards.seed),
    master_seed=STUDY.master_seed,
    arithmetic_threads=STUDY.training["threads"],
    resume="results/.resume",
)


rule train_head:
    input:
        features=start_features,
        labels=["results/{dataset}/labels/{task}.tsv"],
        slides_table="results/{dataset}/slides.tsv",
        split_file="results/{dataset}/splits/{split}/{seed}.tsv",
    output:
        head=f"{HEAD}/head.keras",
        predictions=f"{HEAD}/predictions.h5",
        history=f"{HEAD}/history.tsv",
        curve=f"{HEAD}/curve.tsv",
    log:
        "logs/{dataset}/train_head/{task}/{split}/{seed}/{network}.log",
    benchmark:
        "benchmarks/{dataset}/train_head/{task}/{split}/{seed}/{network}.tsv"
    wildcard_constraints:
        network=ON_FEATURES,
    conda:
        "../envs/histotransfer.yaml"
    threads: STUDY.training["threads"]
    resources:
        **needed(of_head),
        gpu=GPU,
    params:
        **TRAINING_FACTORS,
        feature_set=of_trained("start_features"),
        **step("training.head_on_features.train_head"),
    message:
        "Training the head of {wildcards.network} on features: {wildcards.dataset}, {wildcards.task}, {wildcards.split}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/run_step.py"


rule attach_head:
    input:
        head=f"{HEAD}/head.keras",
        head_predictions=f"{HEAD}/predictions.h5",
        head_history=f"{HEAD}/history.tsv",
        head_curve=f"{HEAD}/curve.tsv",
        weights_file=weights_file,
    output:
        model=f"{TRAINING}/model.keras",
        predictions=f"{TRAINING}/predictions.h5",
        history=f"{TRAINING}/history.tsv",
        curve=f"{TRAINING}/curve.tsv",
    log:
        "logs/{dataset}/attach_head/{task}/{split}/{seed}/{network}.log",
    benchmark:
        "benchmarks/{dataset}/attach_head/{task}/{split}/{seed}/{network}.tsv"
    wildcard_constraints:
        network=HEAD_ONLY,
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("attach_head"),
    params:
        start=of_trained("start"),
        start_name=of_trained("start_name"),
        recipe=of_trained("recipe"),
        classes=classes,
        master_seed=STUDY.master_seed,
        **step("training.head_on_features.attach"),
    message:
        "Putting the trained head of {wildcards.network} on its start: {wildcards.dataset}, {wildcards.task}, {wildcards.split}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/run_step.py"


rule train_network:
    input:
        pixels=training_pixels,
        head=pretrained_head,
        weights_file=weights_file,
        labels=["results/{dataset}/labels/{task}.tsv"],
        slides_table="results/{dataset}/slides.tsv",
        split_file="results/{dataset}/splits/{split}/{seed}.tsv",
    output:
        model=f"{TRAINING}/model.keras",
        predictions=f"{TRAINING}/predictions.h5",
        history=f"{TRAINING}/history.tsv",
        curve=f"{TRAINING}/curve.tsv",
    log:
        "logs/{dataset}/train_network/{task}/{split}/{seed}/{network}.log",
    benchmark:
        "benchmarks/{dataset}/train_network/{task}/{split}/{seed}/{network}.tsv"
    wildcard_constraints:
        network=ON_TILES,
    conda:
        "../envs/histotransfer.yaml"
    threads: STUDY.training["threads"]
    resources:
        **needed(of_training),
        gpu=GPU,
    params:
        **TRAINING_FACTORS,
        start=of_trained("start"),
        start_name=of_trained("start_name"),
        **step("training.network_on_tiles.train_network"),
    message:
        "Training {wildcards.network}: {wildcards.dataset}, {wildcards.task}, {wildcards.split}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/run_step.py"


rule networks:
    input:
        each_training(f"{TRAINING}/model.keras"),
