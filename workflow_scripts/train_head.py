from histotransfer import workflow
from histotransfer.training import head_on_features

workflow.run(snakemake, head_on_features.train_head)
