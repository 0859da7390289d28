from histotransfer import workflow
from histotransfer.slides import grid

workflow.run(snakemake, grid.write_grid)
