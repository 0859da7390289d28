from histotransfer import workflow
from histotransfer.sheets import samples

workflow.run(snakemake, samples.check_table)
