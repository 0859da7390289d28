from histotransfer import workflow
from histotransfer.figures import figures

workflow.run(snakemake, figures.draw_cost)
