# Inner layers. Needs a trained model for each layer.
# Gives the strategy whose layer is chosen by inner cross-validation, in the form of every strategy, and the curve
# over all layers.


rule choose_layer:
    input:
        layer_models=of_each_layer(f"{RUN}/model.skops"),
        layer_predictions=of_each_layer(f"{RUN}/predictions.h5"),
        layer_tunings=of_each_layer(f"{RUN}/tuning.tsv"),
    output:
        model=f"{RUN}/model.skops",
        predictions_file=f"{RUN}/predictions.h5",
        tuning=f"{RUN}/tuning.tsv",
    log:
        "logs/{dataset}/choose_layer/{task}/{split}/{seed}/{features}/{classifier}.log",
    benchmark:
        "benchmarks/{dataset}/choose_layer/{task}/{split}/{seed}/{features}/{classifier}.tsv"
    wildcard_constraints:
        features=CHOSEN,
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("choose_layer"),
    params:
        layers=lambda wildcards: list(STUDY.feature_sets[wildcards.features].layers),
        features_name="{features}",
        **step("evaluation.layer_choice.choose"),
    message:
        "Choosing the layer of {wildcards.features} for {wildcards.classifier}: {wildcards.dataset}, {wildcards.task}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/run_step.py"


rule tabulate_layers:
    input:
        scores="results/studies/{study}/scores.tsv",
        layer_tunings=lambda wildcards: each_run(f"{RUN}/tuning.tsv", layer_methods(wildcards), wildcards.split),
        layer_predictions=lambda wildcards: each_run(f"{RUN}/predictions.h5", layer_methods(wildcards), wildcards.split),
        choices=lambda wildcards: each_run(f"{RUN}/predictions.h5", [method_name(wildcards)], wildcards.split),
    output:
        table="results/studies/{study}/layers/{split}/{features}/{classifier}.csv",
    log:
        "logs/studies/{study}/tabulate_layers/{split}/{features}/{classifier}.log",
    benchmark:
        "benchmarks/studies/{study}/tabulate_layers/{split}/{features}/{classifier}.tsv"
    wildcard_constraints:
        features=CHOSEN,
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("tabulate_layers"),
    params:
        layer_runs=layer_runs,
        choice_runs=lambda wildcards: runs([method_name(wildcards)], wildcards.split),
        layers=lambda wildcards: dict(STUDY.feature_sets[wildcards.features].layers),
        classifier="{classifier}",
        split="{split}",
        **step("evaluation.layer_choice.tabulate"),
    message:
        "Collecting the scores of each layer of {wildcards.features} for {wildcards.classifier}, split {wildcards.split}"
    script:
        "../workflow_scripts/run_step.py"


rule draw_layers:
    input:
        table="results/studies/{study}/layers/{split}/{features}/{classifier}.csv",
    output:
        figure=report(
            "results/studies/{study}/layers/{split}/{features}/{classifier}.svg",
            caption="report/layers.rst",
            category="Inner layers",
            labels={"features": "{features}", "classifier": "{classifier}", "split": "{split}"},
        ),
    log:
        "logs/studies/{study}/draw_layers/{split}/{features}/{classifier}.log",
    benchmark:
        "benchmarks/studies/{study}/draw_layers/{split}/{features}/{classifier}.tsv"
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("draw_layers"),
    params:
        **step("figures.layer_figures.draw_layers"),
    message:
        "Drawing the scores of each layer of {wildcards.features} for {wildcards.classifier}, split {wildcards.split}"
    script:
        "../workflow_scripts/run_step.py"
