# What training does to tiles. Needs the tiles that a network is trained on, as they are stored.
# Gives results/{dataset}/figures/augmentation/{network}.jpg: each transformation at its extremes, and all together.


use rule run_step as draw_augmentation with:
    input:
        pixels=paths_of_training_pixels,
    output:
        figure=report(
            paths.AUGMENTATION_PICTURE, **in_report("augmentation", "Training", "network", subcategory="{dataset}")
        ),
    log:
        "logs/{dataset}/draw_augmentation/{network}.log",
    benchmark:
        "benchmarks/{dataset}/draw_augmentation/{network}.tsv"
    wildcard_constraints:
        network=ON_TILES,
    params:
        **step("figures.augmentation_pictures.draw_augmentation"),
        recipe=pick(get_trained, "recipe"),
        px=pick(get_trained, "start", "px"),
        master_seed=STUDY.master_seed,
    message:
        "Drawing how tiles of {wildcards.dataset} are varied to train {wildcards.network}"
