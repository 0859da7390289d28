from histotransfer import workflow
from histotransfer.evaluation import overlap

workflow.run(snakemake, overlap.tabulate)
