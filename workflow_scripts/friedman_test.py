from histotransfer import friedman, workflow

workflow.run(snakemake, friedman.test)
