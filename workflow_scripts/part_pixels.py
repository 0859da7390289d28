from histotransfer import patches, workflow

workflow.run(snakemake, patches.write_part)
