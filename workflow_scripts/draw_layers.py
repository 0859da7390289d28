from histotransfer import workflow
from histotransfer.figures import layer_figures

workflow.run(snakemake, layer_figures.draw_layers)
