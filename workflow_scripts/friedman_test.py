from histotransfer import workflow
from histotransfer.evaluation import friedman

workflow.run(snakemake, friedman.test)
