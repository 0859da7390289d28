from histotransfer import labels, workflow

workflow.run(snakemake, labels.gather)
