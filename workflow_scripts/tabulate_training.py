from histotransfer import learning_curves, workflow

workflow.run(snakemake, learning_curves.tabulate)
