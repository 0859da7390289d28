# Importance. Needs ExtraTrees trained on merged layers or merged networks.
# Gives the share of importance of each layer or network beside its share of the features.


rule share_importance:
    input:
        models=lambda wildcards: each_run(f"{RUN}/model.skops", [method_name(wildcards)], wildcards.split),
        predictions=lambda wildcards: each_run(f"{RUN}/predictions.h5", [method_name(wildcards)], wildcards.split),
    output:
        table="results/studies/{study}/importance/{split}/{features}/{classifier}.csv",
    log:
        "logs/studies/{study}/share_importance/{split}/{features}/{classifier}.log",
    benchmark:
        "benchmarks/studies/{study}/share_importance/{split}/{features}/{classifier}.tsv"
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("share_importance"),
    params:
        of=lambda wildcards: runs([method_name(wildcards)], wildcards.split),
        **step("evaluation.importance.share"),
    message:
        "Sharing out the importance of {wildcards.features} for {wildcards.classifier}, split {wildcards.split}"
    script:
        "../workflow_scripts/run_step.py"


rule draw_importance:
    input:
        table="results/studies/{study}/importance/{split}/{features}/{classifier}.csv",
    output:
        figure=report(
            "results/studies/{study}/importance/{split}/{features}/{classifier}.svg",
            caption="report/importance.rst",
            category="Importance",
            labels={"features": "{features}", "classifier": "{classifier}", "split": "{split}"},
        ),
    log:
        "logs/studies/{study}/draw_importance/{split}/{features}/{classifier}.log",
    benchmark:
        "benchmarks/studies/{study}/draw_importance/{split}/{features}/{classifier}.tsv"
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("draw_importance"),
    params:
        **step("figures.layer_figures.draw_importance"),
    message:
        "Drawing the importance of {wildcards.features} for {wildcards.classifier}, split {wildcards.split}"
    script:
        "../workflow_scripts/run_step.py"
