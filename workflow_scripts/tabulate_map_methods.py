from histotransfer import workflow
from histotransfer.maps import map_tables

workflow.run(snakemake, map_tables.tabulate_methods)
