from histotransfer import overlap, workflow

workflow.run(snakemake, overlap.tabulate)
