from histotransfer import tiles, workflow

workflow.run(snakemake, tiles.write_grid)
