# Inner layers. Needs a trained model for each layer.
# Gives the strategy whose layer is chosen by inner cross-validation, in the form of every strategy, and the curve
# over all layers.


use rule run_step as choose_layer with:
    input:
        layer_models=paths_of_layers(f"{paths.RUN}/model.skops"),
        layer_predictions=paths_of_layers(paths.PREDICTIONS),
        layer_tunings=paths_of_layers(f"{paths.RUN}/tuning.tsv"),
    output:
        model=f"{paths.RUN}/model.skops",
        predictions_file=paths.PREDICTIONS,
        tuning=f"{paths.RUN}/tuning.tsv",
    log:
        "logs/{dataset}/choose_layer/{task}/{split}/{seed}/{features}/{classifier}.log",
    benchmark:
        "benchmarks/{dataset}/choose_layer/{task}/{split}/{seed}/{features}/{classifier}.tsv"
    wildcard_constraints:
        features=CHOSEN,
    params:
        **step("evaluation.layer_choice.choose"),
        layers=lambda wildcards: list(get_feature_set(wildcards).layers),
        features_name="{features}",
    message:
        "Choosing the layer of {wildcards.features} for {wildcards.classifier}: {wildcards.dataset}, {wildcards.task}, seed {wildcards.seed}"


use rule run_step as tabulate_layers with:
    input:
        scores=paths.SCORES,
        layer_tunings=lambda wildcards: paths.filled(f"{paths.RUN}/tuning.tsv", get_layer_runs(wildcards)),
        layer_predictions=lambda wildcards: paths.filled(paths.PREDICTIONS, get_layer_runs(wildcards)),
        choices=paths_of_method(paths.PREDICTIONS),
    output:
        table=f"{paths.LAYERS}.csv",
    log:
        "logs/studies/{study}/tabulate_layers/{split}/{features}/{classifier}.log",
    benchmark:
        "benchmarks/studies/{study}/tabulate_layers/{split}/{features}/{classifier}.tsv"
    wildcard_constraints:
        features=CHOSEN,
    params:
        **step("evaluation.layer_choice.tabulate"),
        layer_runs=plainly(get_layer_runs),
        choice_runs=plainly(get_runs_of_method),
        layers=lambda wildcards: dict(get_feature_set(wildcards).layers),
        classifier="{classifier}",
        split="{split}",
    message:
        "Collecting the scores of each layer of {wildcards.features} for {wildcards.classifier}, split {wildcards.split}"


use rule run_step as draw_layers with:
    input:
        table=f"{paths.LAYERS}.csv",
    output:
        figure=report(f"{paths.LAYERS}.svg", **in_report("layers", "Inner layers", "features", "classifier", "split")),
    log:
        "logs/studies/{study}/draw_layers/{split}/{features}/{classifier}.log",
    benchmark:
        "benchmarks/studies/{study}/draw_layers/{split}/{features}/{classifier}.tsv"
    params:
        **step("figures.layer_figures.draw_layers"),
    message:
        "Drawing the scores of each layer of {wildcards.features} for {wildcards.classifier}, split {wildcards.split}"
