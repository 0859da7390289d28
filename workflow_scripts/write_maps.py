from histotransfer import probability_maps, workflow

workflow.run(snakemake, probability_maps.write_maps)
