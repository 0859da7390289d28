from histotransfer import workflow
from histotransfer.figures import training_figures

workflow.run(snakemake, training_figures.draw_epochs)
