from histotransfer import labels, workflow

workflow.run(snakemake, labels.label_regions)
