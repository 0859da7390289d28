from histotransfer import workflow
from histotransfer.cohort import splits

workflow.run(snakemake, splits.assign_groups)
