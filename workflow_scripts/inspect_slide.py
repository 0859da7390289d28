from histotransfer import workflow
from histotransfer.slides import reader

workflow.run(snakemake, reader.inspect_slide)
