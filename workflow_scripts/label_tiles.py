from histotransfer import workflow
from histotransfer.cohort import labels

workflow.run(snakemake, labels.label_slide)
