from histotransfer import costs, workflow

workflow.run(snakemake, costs.of_methods)
