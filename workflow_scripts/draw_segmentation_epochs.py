from histotransfer import training_figures, workflow

workflow.run(snakemake, training_figures.draw_epochs)
