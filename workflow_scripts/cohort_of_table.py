from histotransfer import workflow
from histotransfer.cohort import cohort

workflow.run(snakemake, cohort.gather_table)
