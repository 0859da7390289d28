from histotransfer import staging, workflow

workflow.run(snakemake, staging.collect)
