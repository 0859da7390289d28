from histotransfer import workflow
from histotransfer.slides import tissue

workflow.run(snakemake, tissue.write_mask)
