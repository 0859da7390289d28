from histotransfer import differences, workflow

workflow.run(snakemake, differences.compare)
