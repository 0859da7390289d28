from histotransfer import workflow
from histotransfer.classifiers import fitting

workflow.run(snakemake, fitting.train)
