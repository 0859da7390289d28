# Tissue. Needs slides. Gives results/{dataset}/tissue/{slide}.png, the mask, and .jpg, the overlay to look at.


use rule run_step as tissue_mask with:
    input:
        slide_file=path_of_slide_file,
        description=paths.DESCRIPTION,
    output:
        mask=paths.TISSUE_MASK,
        overlay=paths.TISSUE_OVERLAY,
    log:
        "logs/{dataset}/tissue_mask/{slide}.log",
    benchmark:
        "benchmarks/{dataset}/tissue_mask/{slide}.tsv"
    wildcard_constraints:
        dataset=SLIDES,
    params:
        **step("slides.tissue.write_mask"),
        threshold=pick(get_tiling, "tissue_threshold"),
        exclude_pen=pick(get_tiling, "exclude_pen"),
    message:
        "Finding the tissue on slide {wildcards.slide} of {wildcards.dataset}"


rule tissue:
    input:
        paths_of_all_slides(paths.TISSUE_MASK),
