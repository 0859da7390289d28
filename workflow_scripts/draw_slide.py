from histotransfer import workflow
from histotransfer.drawn import demo

workflow.run(snakemake, demo.draw_slide)
