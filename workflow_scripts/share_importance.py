from histotransfer import workflow
from histotransfer.evaluation import importance

workflow.run(snakemake, importance.share)
