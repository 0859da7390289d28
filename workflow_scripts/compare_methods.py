from histotransfer import workflow
from histotransfer.evaluation import differences

workflow.run(snakemake, differences.compare)
