from histotransfer import workflow
from histotransfer.cohort import split_counts

workflow.run(snakemake, split_counts.count)
