from histotransfer import workflow
from histotransfer.features import streaming

workflow.run(snakemake, streaming.extract_from_slides)
