from histotransfer import samples, workflow

workflow.run(snakemake, samples.check_table)
