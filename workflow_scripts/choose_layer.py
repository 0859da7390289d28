from histotransfer import workflow
from histotransfer.evaluation import layer_choice

workflow.run(snakemake, layer_choice.choose)
