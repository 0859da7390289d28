from histotransfer import workflow
from histotransfer.slides import patches

workflow.run(snakemake, patches.write_part)
