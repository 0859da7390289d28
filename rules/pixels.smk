# Pixels. Needs tiles, or a sheet of patches or points.
# Gives results/{dataset}/pixels/{px}/{slide}.h5: uint8 (n, px, px, 3); for tables {slide} is a part of the rows.
# And results/{dataset}/images/{px}/{slide}.h5: patches at their own shape, where a recipe crops them at random.


use rule run_step as tile_pixels with:
    input:
        slide_file=path_of_slide_file,
        grid=paths.GRID,
    output:
        pixels=paths.PIXELS,
    log:
        "logs/{dataset}/tile_pixels/{px}/{slide}.log",
    benchmark:
        "benchmarks/{dataset}/tile_pixels/{px}/{slide}.tsv"
    wildcard_constraints:
        dataset=SLIDES,
    params:
        **step("slides.pixels.write_pixels"),
        px=get_number("px"),
        tiling=pick_keys(get_tiling, "level", "grayscale", "upsample"),
    message:
        "Cutting slide {wildcards.slide} of {wildcards.dataset} at {wildcards.px} px"


use rule run_step as check_table with:
    input:
        sheet=pick(get_dataset, "sheet"),
    output:
        table_file=paths.CHECKED_SHEET,
    log:
        "logs/{dataset}/check_table.log",
    benchmark:
        "benchmarks/{dataset}/check_table.tsv"
    wildcard_constraints:
        dataset=TABLES,
    params:
        **step("sheets.samples.check_table"),
        kind=pick(get_dataset, "kind"),
        root=pick(get_dataset, "root"),
        labels=pick(get_dataset, "sheet_check", "labels"),
        needs=pick(get_dataset, "sheet_check", "needs"),
        given=pick(get_dataset, "sheet_check", "given"),
    message:
        "Checking every row of the sheet of {wildcards.dataset}"


use rule run_step as part_pixels with:
    input:
        sheet=pick(get_dataset, "sheet"),
        table=paths.CHECKED_SHEET,
    output:
        pixels=paths.PIXELS,
    log:
        "logs/{dataset}/part_pixels/{px}/{slide}.log",
    benchmark:
        "benchmarks/{dataset}/part_pixels/{px}/{slide}.tsv"
    wildcard_constraints:
        dataset=TABLES,
    params:
        **step("slides.patches.write_part"),
        kind=pick(get_dataset, "kind"),
        root=pick(get_dataset, "root"),
        part="{slide}",
        n_parts=lambda wildcards: len(get_dataset(wildcards).parts),
        px=get_number("px"),
        crop=pick(get_dataset, "crop"),
        grayscale=pick(get_dataset, "grayscale"),
    message:
        "Cutting {wildcards.slide} of {wildcards.dataset} at {wildcards.px} px"


use rule run_step as image_pixels with:
    input:
        sheet=pick(get_dataset, "sheet"),
        table=paths.CHECKED_SHEET,
    output:
        images=paths.IMAGES,
    log:
        "logs/{dataset}/image_pixels/{px}/{slide}.log",
    benchmark:
        "benchmarks/{dataset}/image_pixels/{px}/{slide}.tsv"
    wildcard_constraints:
        dataset=PATCHES,
    params:
        **step("slides.image_files.write_images"),
        kind=pick(get_dataset, "kind"),
        root=pick(get_dataset, "root"),
        part="{slide}",
        n_parts=lambda wildcards: len(get_dataset(wildcards).parts),
        px=get_number("px"),
        grayscale=pick(get_dataset, "grayscale"),
    message:
        "Keeping {wildcards.slide} of {wildcards.dataset} at its own shape, {wildcards.px} px or more"


rule pixels:
    input:
        [
            f"results/{dataset.name}/pixels/{px}/{slide}.h5"
            for dataset in STUDY.datasets.values()
            for px in STUDY.px_stored(dataset.name)
            for slide in dataset.parts
        ],
