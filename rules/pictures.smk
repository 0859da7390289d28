# Pictures to look at. Needs tissue, tiles, pixels and labels. Gives results/{dataset}/figures/: each slide with its
# kept tiles, and sample tiles of each class.


use rule run_step as draw_slide_tiles with:
    input:
        overlay=paths.TISSUE_OVERLAY,
        grid=paths.GRID,
        description=paths.DESCRIPTION,
    output:
        figure=report(paths.SLIDE_PICTURE, **in_report("slides", "Slides", "slide", subcategory="{dataset}")),
    log:
        "logs/{dataset}/draw_slide_tiles/{slide}.log",
    benchmark:
        "benchmarks/{dataset}/draw_slide_tiles/{slide}.tsv"
    wildcard_constraints:
        dataset=SLIDES,
    params:
        **step("figures.pictures.draw_slide"),
    message:
        "Drawing the tiles of slide {wildcards.slide} of {wildcards.dataset}"


use rule run_step as draw_tiles with:
    input:
        pixels=paths_of_slides(paths.PIXELS, px=get_finest_px),
        label_files=paths_of_slides(paths.SLIDE_LABELS),
    output:
        figure=report(
            paths.TILES_PICTURE,
            **in_report("tiles", "Tiles", "task", subcategory="{dataset}", **{"class": "{class_number}"}),
        ),
    log:
        "logs/{dataset}/draw_tiles/{task}/{class_number}.log",
    benchmark:
        "benchmarks/{dataset}/draw_tiles/{task}/{class_number}.tsv"
    wildcard_constraints:
        class_number=r"\d+",
    params:
        **step("figures.pictures.draw_tiles"),
        class_name=lambda wildcards: get_classes(wildcards)[int(wildcards.class_number)],
        per_class=12,
        master_seed=STUDY.master_seed,
        noun=get_noun,
    message:
        "Drawing sample tiles of {wildcards.dataset}, {wildcards.task}, class {wildcards.class_number}"
