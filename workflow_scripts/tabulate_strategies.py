from histotransfer import ranking, workflow

workflow.run(snakemake, ranking.tabulate_strategies)
