from histotransfer import training, workflow

workflow.run(snakemake, training.train_network)
