from histotransfer import features, workflow

workflow.run(snakemake, features.extract_trained)
