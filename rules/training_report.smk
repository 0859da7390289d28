# Trained networks in the report. Needs their histories, learning curves, predictions and tiles.
# Gives results/studies/{study}/training/{split}/: learning curves by epoch and by iteration, with their numbers; and
# beside each network grad_cam.svg, what it looks at in some test tiles.


rule tabulate_training:
    input:
        histories=of_trainings("history.tsv"),
        curves=of_trainings("curve.tsv"),
        predictions=of_trainings("predictions.h5"),
    output:
        epochs="results/studies/{study}/training/{split}/epochs.csv",
        steps="results/studies/{study}/training/{split}/steps.csv",
        table="results/studies/{study}/training/{split}/accuracy.csv",
    log:
        "logs/studies/{study}/tabulate_training/{split}.log",
    benchmark:
        "benchmarks/studies/{study}/tabulate_training/{split}.tsv"
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("tabulate_training"),
    params:
        of=lambda wildcards: CONTENTS.trainings(wildcards.split),
        split="{split}",
        **step("evaluation.learning_curves.tabulate"),
    message:
        "Collecting the learning curves of trained networks, split {wildcards.split}"
    script:
        "../workflow_scripts/run_step.py"


rule draw_iterations:
    input:
        table="results/studies/{study}/training/{split}/steps.csv",
    output:
        figure=report(
            "results/studies/{study}/training/{split}/{dataset}/{task}/iterations/{architecture}.svg",
            caption="report/iterations.rst",
            category="Training",
            subcategory="{dataset}",
            labels={"task": "{task}", "split": "{split}", "by iteration": "{architecture}"},
        ),
    log:
        "logs/studies/{study}/draw_iterations/{split}/{dataset}/{task}/{architecture}.log",
    benchmark:
        "benchmarks/studies/{study}/draw_iterations/{split}/{dataset}/{task}/{architecture}.tsv"
    wildcard_constraints:
        architecture=ID,
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("draw_iterations"),
    params:
        dataset="{dataset}",
        task="{task}",
        architecture=lambda wildcards: CONTENTS.architecture(wildcards.architecture),
        **step("figures.training_figures.draw_iterations"),
    message:
        "Drawing accuracy by iteration of {wildcards.architecture}: {wildcards.dataset}, {wildcards.task}, {wildcards.split}"
    script:
        "../workflow_scripts/run_step.py"


rule draw_epochs:
    input:
        table="results/studies/{study}/training/{split}/epochs.csv",
    output:
        figure=report(
            "results/studies/{study}/training/{split}/{dataset}/{task}/epochs/{network}.svg",
            caption="report/epochs.rst",
            category="Training",
            subcategory="{dataset}",
            labels={"task": "{task}", "split": "{split}", "by epoch": "{network}"},
        ),
    log:
        "logs/studies/{study}/draw_epochs/{split}/{dataset}/{task}/{network}.log",
    benchmark:
        "benchmarks/studies/{study}/draw_epochs/{split}/{dataset}/{task}/{network}.tsv"
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("draw_epochs"),
    params:
        dataset="{dataset}",
        task="{task}",
        network="{network}",
        **step("figures.training_figures.draw_epochs"),
    message:
        "Drawing the epochs of {wildcards.network}: {wildcards.dataset}, {wildcards.task}, {wildcards.split}"
    script:
        "../workflow_scripts/run_step.py"


rule draw_segmentation_epochs:
    input:
        table="results/studies/{study}/training/{split}/epochs.csv",
    output:
        figure=report(
            "results/studies/{study}/training/{split}/{dataset}/{task}/epochs/{features}/{classifier}.svg",
            caption="report/epochs.rst",
            category="Training",
            subcategory="{dataset}",
            labels={"task": "{task}", "split": "{split}", "by epoch": "{features}+{classifier}"},
        ),
    log:
        "logs/studies/{study}/draw_segmentation_epochs/{split}/{dataset}/{task}/{features}/{classifier}.log",
    benchmark:
        "benchmarks/studies/{study}/draw_segmentation_epochs/{split}/{dataset}/{task}/{features}/{classifier}.tsv"
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("draw_segmentation_epochs"),
    params:
        dataset="{dataset}",
        task="{task}",
        network=method_name,
        **step("figures.training_figures.draw_epochs"),
    message:
        "Drawing the epochs of {wildcards.features}+{wildcards.classifier}: {wildcards.dataset}, {wildcards.task}, {wildcards.split}"
    script:
        "../workflow_scripts/run_step.py"


rule grad_cam:
    input:
        model=f"{TRAINING}/model.keras",
        predictions=f"{TRAINING}/predictions.h5",
        pixels=training_pixels,
    output:
        picture=report(
            f"{TRAINING}/grad_cam.svg",
            caption="report/grad_cam.rst",
            category="Training",
            subcategory="{dataset}",
            labels={"task": "{task}", "split": "{split}", "Grad-CAM": "{network}"},
        ),
    log:
        "logs/{dataset}/grad_cam/{task}/{split}/{seed}/{network}.log",
    benchmark:
        "benchmarks/{dataset}/grad_cam/{task}/{split}/{seed}/{network}.tsv"
    conda:
        "../envs/histotransfer.yaml"
    threads: 2
    resources:
        **by_files("grad_cam"),
        gpu=GPU,
    params:
        per_class=lambda wildcards: CONTENTS.tiles_explained(wildcards.dataset, wildcards.task),
        master_seed=STUDY.master_seed,
        **step("figures.grad_cam.draw"),
    message:
        "Drawing what {wildcards.network} looks at: {wildcards.dataset}, {wildcards.task}, {wildcards.split}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/run_step.py"
