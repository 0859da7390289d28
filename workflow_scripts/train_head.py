from histotransfer import heads, workflow

workflow.run(snakemake, heads.train_head)
