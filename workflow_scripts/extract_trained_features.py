from histotransfer import workflow
from histotransfer.features import extraction

workflow.run(snakemake, extraction.extract_trained)
