from histotransfer import workflow
from histotransfer.evaluation import ranking

workflow.run(snakemake, ranking.tabulate_strategies)
