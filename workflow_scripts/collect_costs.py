from histotransfer import costs, workflow

workflow.run(snakemake, costs.collect)
