from histotransfer import heads, workflow

workflow.run(snakemake, heads.attach)
