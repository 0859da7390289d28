from histotransfer import workflow
from histotransfer.maps import tumour_points

workflow.run(snakemake, tumour_points.tabulate)
