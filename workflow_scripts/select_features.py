from histotransfer import workflow
from histotransfer.classifiers import selection

workflow.run(snakemake, selection.select)
