# Pixels. Needs tiles, or a sheet of patches or points.
# Gives results/{dataset}/pixels/{px}/{slide}.h5: uint8 (n, px, px, 3); for tables {slide} is a part of the rows.
# And results/{dataset}/images/{px}/{slide}.h5: patches at their own shape, where a recipe crops them at random.


rule tile_pixels:
    input:
        slide_file=slide_file,
        grid="results/{dataset}/tiles/{slide}.h5",
    output:
        pixels="results/{dataset}/pixels/{px}/{slide}.h5",
    log:
        "logs/{dataset}/tile_pixels/{px}/{slide}.log",
    benchmark:
        "benchmarks/{dataset}/tile_pixels/{px}/{slide}.tsv"
    wildcard_constraints:
        dataset=SLIDES,
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("tile_pixels"),
    params:
        px=lambda wildcards: int(wildcards.px),
        tiling=tiling("level", "grayscale", "upsample"),
        **step("slides.pixels.write_pixels"),
    message:
        "Cutting slide {wildcards.slide} of {wildcards.dataset} at {wildcards.px} px"
    script:
        "../workflow_scripts/run_step.py"


rule check_table:
    input:
        sheet=of_dataset("sheet"),
    output:
        table_file="results/{dataset}/table.json",
    log:
        "logs/{dataset}/check_table.log",
    benchmark:
        "benchmarks/{dataset}/check_table.tsv"
    wildcard_constraints:
        dataset=TABLES,
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("check_table"),
    params:
        kind=of_dataset("kind"),
        root=of_dataset("root"),
        labels=sheet_check("labels"),
        needs=sheet_check("needs"),
        given=sheet_check("given"),
        **step("sheets.samples.check_table"),
    message:
        "Checking every row of the sheet of {wildcards.dataset}"
    script:
        "../workflow_scripts/run_step.py"


rule part_pixels:
    input:
        sheet=of_dataset("sheet"),
        table="results/{dataset}/table.json",
    output:
        pixels="results/{dataset}/pixels/{px}/{slide}.h5",
    log:
        "logs/{dataset}/part_pixels/{px}/{slide}.log",
    benchmark:
        "benchmarks/{dataset}/part_pixels/{px}/{slide}.tsv"
    wildcard_constraints:
        dataset=TABLES,
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("part_pixels"),
    params:
        kind=of_dataset("kind"),
        root=of_dataset("root"),
        part="{slide}",
        n_parts=n_parts,
        px=lambda wildcards: int(wildcards.px),
        crop=of_dataset("crop"),
        grayscale=of_dataset("grayscale"),
        **step("slides.patches.write_part"),
    message:
        "Cutting {wildcards.slide} of {wildcards.dataset} at {wildcards.px} px"
    script:
        "../workflow_scripts/run_step.py"


rule image_pixels:
    input:
        sheet=of_dataset("sheet"),
        table="results/{dataset}/table.json",
    output:
        images="results/{dataset}/images/{px}/{slide}.h5",
    log:
        "logs/{dataset}/image_pixels/{px}/{slide}.log",
    benchmark:
        "benchmarks/{dataset}/image_pixels/{px}/{slide}.tsv"
    wildcard_constraints:
        dataset=names("patches"),
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("image_pixels"),
    params:
        kind=of_dataset("kind"),
        root=of_dataset("root"),
        part="{slide}",
        n_parts=n_parts,
        px=lambda wildcards: int(wildcards.px),
        grayscale=of_dataset("grayscale"),
        **step("slides.image_files.write_images"),
    message:
        "Keeping {wildcards.slide} of {wildcards.dataset} at its own shape, {wildcards.px} px or more"
    script:
        "../workflow_scripts/run_step.py"


rule pixels:
    input:
        [
            f"results/{dataset.name}/pixels/{px}/{slide}.h5"
            for dataset in STUDY.datasets.values()
            for px in STUDY.px_stored(dataset.name)
            for slide in dataset.parts
        ],
