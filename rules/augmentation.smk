# What training does to tiles. Needs the tiles that a network is trained on, as they are stored.
# Gives results/{dataset}/figures/augmentation/{network}.jpg: each transformation at its extremes, and all together.


rule draw_augmentation:
    input:
        pixels=training_pixels,
    output:
        figure=report(
            "results/{dataset}/figures/augmentation/{network}.jpg",
            caption="report/augmentation.rst",
            category="Training",
            subcategory="{dataset}",
            labels={"network": "{network}"},
        ),
    log:
        "logs/{dataset}/draw_augmentation/{network}.log",
    benchmark:
        "benchmarks/{dataset}/draw_augmentation/{network}.tsv"
    wildcard_constraints:
        network=ON_TILES,
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("draw_augmentation"),
    params:
        recipe=of_trained("recipe"),
        px=lambda wildcards: STUDY.trained[wildcards.network].start["px"],
        master_seed=STUDY.master_seed,
        **step("figures.augmentation_pictures.draw_augmentation"),
    message:
        "Drawing how tiles of {wildcards.dataset} are varied to train {wildcards.network}"
    script:
        "../workflow_scripts/run_step.py"
