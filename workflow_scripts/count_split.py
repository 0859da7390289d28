from histotransfer import split_counts, workflow

workflow.run(snakemake, split_counts.count)
