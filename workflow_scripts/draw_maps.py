from histotransfer import workflow
from histotransfer.figures import map_figures

workflow.run(snakemake, map_figures.draw_maps)
