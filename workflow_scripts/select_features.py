from histotransfer import selection, workflow

workflow.run(snakemake, selection.select)
