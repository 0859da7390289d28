from histotransfer import map_figures, workflow

workflow.run(snakemake, map_figures.draw_maps)
