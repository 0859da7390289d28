from histotransfer import workflow
from histotransfer.evaluation import scores

workflow.run(snakemake, scores.score)
