from histotransfer import cohort, workflow

workflow.run(snakemake, cohort.gather_table)
