from histotransfer import workflow
from histotransfer.maps import probability_maps

workflow.run(snakemake, probability_maps.write_maps)
