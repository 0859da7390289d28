from histotransfer import tissue, workflow

workflow.run(snakemake, tissue.write_mask)
