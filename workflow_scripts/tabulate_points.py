from histotransfer import tumour_points, workflow

workflow.run(snakemake, tumour_points.tabulate)
