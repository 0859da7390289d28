from histotransfer import ranking, workflow

workflow.run(snakemake, ranking.rank)
