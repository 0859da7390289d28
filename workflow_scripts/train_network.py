from histotransfer import workflow
from histotransfer.training import network_on_tiles

workflow.run(snakemake, network_on_tiles.train_network)
