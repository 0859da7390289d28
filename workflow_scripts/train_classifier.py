from histotransfer import classifiers, workflow

workflow.run(snakemake, classifiers.train)
