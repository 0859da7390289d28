from histotransfer import workflow
from histotransfer.evaluation import learning_curves

workflow.run(snakemake, learning_curves.tabulate)
