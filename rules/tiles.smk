# Tiles. Needs slides and tissue.
# Gives results/{dataset}/tiles/{slide}.h5: geometry alone: places, tissue fraction, homogeneity, what became of each.


rule tile_grid:
    input:
        slide_file=slide_file,
        description="results/{dataset}/slides/{slide}.json",
        mask="results/{dataset}/tissue/{slide}.png",
    output:
        grid="results/{dataset}/tiles/{slide}.h5",
    log:
        "logs/{dataset}/tile_grid/{slide}.log",
    benchmark:
        "benchmarks/{dataset}/tile_grid/{slide}.tsv"
    wildcard_constraints:
        dataset=SLIDES,
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("tile_grid"),
    params:
        tiling=tiling(
            "size_um",
            "size_px",
            "mpp",
            "overlap",
            "tissue_min",
            "homogeneity",
            "homogeneity_drop_at",
            "max_tiles_per_slide",
            "upsample",
        ),
        finest_px=lambda wildcards: max(STUDY.px_of(wildcards.dataset)),
        master_seed=STUDY.master_seed,
        **step("slides.grid.write_grid"),
    message:
        "Placing the tiles of slide {wildcards.slide} of {wildcards.dataset}"
    script:
        "../workflow_scripts/run_step.py"


rule tiles:
    input:
        study_wide("results/{dataset}/tiles/{slide}.h5", kinds=["slides"]),
