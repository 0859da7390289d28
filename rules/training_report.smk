# Trained networks in the report. Needs their histories, learning curves, predictions and tiles.
# Gives results/studies/{study}/training/{split}/: learning curves by epoch and by iteration, with their numbers; and
# beside each network grad_cam.svg, what it looks at in some test tiles.


use rule run_step as tabulate_training with:
    input:
        histories=paths_of_trainings("history.tsv"),
        curves=paths_of_trainings("curve.tsv"),
        predictions=paths_of_trainings("predictions.h5"),
    output:
        epochs=f"{paths.CURVES}/epochs.csv",
        steps=f"{paths.CURVES}/steps.csv",
        table=f"{paths.CURVES}/accuracy.csv",
    log:
        "logs/studies/{study}/tabulate_training/{split}.log",
    benchmark:
        "benchmarks/studies/{study}/tabulate_training/{split}.tsv"
    params:
        **step("evaluation.learning_curves.tabulate"),
        trainings=plainly(get_trainings),
        split="{split}",
    message:
        "Collecting the learning curves of trained networks, split {wildcards.split}"


use rule run_step as draw_iterations with:
    input:
        table=f"{paths.CURVES}/steps.csv",
    output:
        figure=report(
            paths.ITERATIONS_FIGURE,
            **in_report(
                "iterations",
                "Training",
                "task",
                "split",
                subcategory="{dataset}",
                **{"by iteration": "{architecture}"},
            ),
        ),
    log:
        "logs/studies/{study}/draw_iterations/{split}/{dataset}/{task}/{architecture}.log",
    benchmark:
        "benchmarks/studies/{study}/draw_iterations/{split}/{dataset}/{task}/{architecture}.tsv"
    wildcard_constraints:
        architecture=ID,
    params:
        **step("figures.training_figures.draw_iterations"),
        dataset="{dataset}",
        task="{task}",
        architecture=lambda wildcards: CONTENTS.architecture(wildcards.architecture),
    message:
        "Drawing accuracy by iteration of {wildcards.architecture}: {wildcards.dataset}, {wildcards.task}, {wildcards.split}"


use rule run_step as draw_epochs with:
    input:
        table=f"{paths.CURVES}/epochs.csv",
    output:
        figure=report(
            paths.EPOCHS_FIGURE,
            **in_report("epochs", "Training", "task", "split", subcategory="{dataset}", **{"by epoch": "{network}"}),
        ),
    log:
        "logs/studies/{study}/draw_epochs/{split}/{dataset}/{task}/{network}.log",
    benchmark:
        "benchmarks/studies/{study}/draw_epochs/{split}/{dataset}/{task}/{network}.tsv"
    params:
        **step("figures.training_figures.draw_epochs"),
        dataset="{dataset}",
        task="{task}",
        network="{network}",
    message:
        "Drawing the epochs of {wildcards.network}: {wildcards.dataset}, {wildcards.task}, {wildcards.split}"


use rule run_step as draw_segmentation_epochs with:
    input:
        table=f"{paths.CURVES}/epochs.csv",
    output:
        figure=report(
            paths.SEGMENTATION_EPOCHS_FIGURE,
            **in_report(
                "epochs",
                "Training",
                "task",
                "split",
                subcategory="{dataset}",
                **{"by epoch": "{features}+{classifier}"},
            ),
        ),
    log:
        "logs/studies/{study}/draw_segmentation_epochs/{split}/{dataset}/{task}/{features}/{classifier}.log",
    benchmark:
        "benchmarks/studies/{study}/draw_segmentation_epochs/{split}/{dataset}/{task}/{features}/{classifier}.tsv"
    params:
        **step("figures.training_figures.draw_epochs"),
        dataset="{dataset}",
        task="{task}",
        network=get_method,
    message:
        "Drawing the epochs of {wildcards.features}+{wildcards.classifier}: {wildcards.dataset}, {wildcards.task}, {wildcards.split}"


use rule run_step as grad_cam with:
    input:
        model=f"{paths.TRAINING}/model.keras",
        predictions=f"{paths.TRAINING}/predictions.h5",
        pixels=paths_of_training_pixels,
    output:
        picture=report(
            paths.GRAD_CAM,
            **in_report("grad_cam", "Training", "task", "split", subcategory="{dataset}", **{"Grad-CAM": "{network}"}),
        ),
    log:
        "logs/{dataset}/grad_cam/{task}/{split}/{seed}/{network}.log",
    benchmark:
        "benchmarks/{dataset}/grad_cam/{task}/{split}/{seed}/{network}.tsv"
    threads: 2
    resources:
        **REQUESTS.by_files(),
        gpu=GPU,
    params:
        **step("figures.grad_cam.draw"),
        per_class=lambda wildcards: CONTENTS.tiles_explained(wildcards.dataset, wildcards.task),
        master_seed=STUDY.master_seed,
    message:
        "Drawing what {wildcards.network} looks at: {wildcards.dataset}, {wildcards.task}, {wildcards.split}, seed {wildcards.seed}"
