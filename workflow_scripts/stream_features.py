from histotransfer import streaming, workflow

workflow.run(snakemake, streaming.extract_from_slides)
