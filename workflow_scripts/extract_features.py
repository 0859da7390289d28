from histotransfer import features, workflow

workflow.run(snakemake, features.extract)
