from histotransfer import workflow

workflow.run(snakemake)
