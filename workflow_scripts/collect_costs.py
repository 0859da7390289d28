from histotransfer import workflow
from histotransfer.evaluation import costs

workflow.run(snakemake, costs.collect)
