# Tiles. Needs slides and tissue.
# Gives results/{dataset}/tiles/{slide}.h5: geometry alone: places, tissue fraction, homogeneity, what became of each.


use rule run_step as tile_grid with:
    input:
        slide_file=path_of_slide_file,
        description=paths.DESCRIPTION,
        mask=paths.TISSUE_MASK,
    output:
        grid=paths.GRID,
    log:
        "logs/{dataset}/tile_grid/{slide}.log",
    benchmark:
        "benchmarks/{dataset}/tile_grid/{slide}.tsv"
    wildcard_constraints:
        dataset=SLIDES,
    params:
        **step("slides.grid.write_grid"),
        tiling=pick_keys(
            get_tiling,
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
        finest_px=get_finest_px,
        master_seed=STUDY.master_seed,
    message:
        "Placing the tiles of slide {wildcards.slide} of {wildcards.dataset}"


rule tiles:
    input:
        paths_of_all_slides(paths.GRID),
