from histotransfer import workflow
from histotransfer.figures import pictures

workflow.run(snakemake, pictures.draw_slide)
