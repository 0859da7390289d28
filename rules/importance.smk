# Importance. Needs ExtraTrees trained on merged layers or merged networks.
# Gives the share of importance of each layer or network beside its share of the features.


use rule run_step as share_importance with:
    input:
        models=paths_of_method(f"{paths.RUN}/model.skops"),
        predictions=paths_of_method(paths.PREDICTIONS),
    output:
        table=f"{paths.IMPORTANCE}.csv",
    log:
        "logs/studies/{study}/share_importance/{split}/{features}/{classifier}.log",
    benchmark:
        "benchmarks/studies/{study}/share_importance/{split}/{features}/{classifier}.tsv"
    params:
        **step("evaluation.importance.share"),
        runs=plainly(get_runs_of_method),
    message:
        "Sharing out the importance of {wildcards.features} for {wildcards.classifier}, split {wildcards.split}"


use rule run_step as draw_importance with:
    input:
        table=f"{paths.IMPORTANCE}.csv",
    output:
        figure=report(
            f"{paths.IMPORTANCE}.svg", **in_report("importance", "Importance", "features", "classifier", "split")
        ),
    log:
        "logs/studies/{study}/draw_importance/{split}/{features}/{classifier}.log",
    benchmark:
        "benchmarks/studies/{study}/draw_importance/{split}/{features}/{classifier}.tsv"
    params:
        **step("figures.layer_figures.draw_importance"),
    message:
        "Drawing the importance of {wildcards.features} for {wildcards.classifier}, split {wildcards.split}"
