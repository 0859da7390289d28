# Tissue. Needs slides. Gives results/{dataset}/tissue/{slide}.png, the mask, and .jpg, the overlay to look at.


rule tissue_mask:
    input:
        slide_file=slide_file,
        description="results/{dataset}/slides/{slide}.json",
    output:
        mask="results/{dataset}/tissue/{slide}.png",
        overlay="results/{dataset}/tissue/{slide}.jpg",
    log:
        "logs/{dataset}/tissue_mask/{slide}.log",
    benchmark:
        "benchmarks/{dataset}/tissue_mask/{slide}.tsv"
    wildcard_constraints:
        dataset=SLIDES,
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("tissue_mask"),
    params:
        threshold=tiling_key("tissue_threshold"),
        exclude_pen=tiling_key("exclude_pen"),
        **step("slides.tissue.write_mask"),
    message:
        "Finding the tissue on slide {wildcards.slide} of {wildcards.dataset}"
    script:
        "../workflow_scripts/run_step.py"


rule tissue:
    input:
        study_wide("results/{dataset}/tissue/{slide}.png", kinds=["slides"]),
