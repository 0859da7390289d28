from histotransfer import splits, workflow

workflow.run(snakemake, splits.assign_groups)
