from histotransfer import workflow
from histotransfer.slides import pixels

workflow.run(snakemake, pixels.write_pixels)
