from histotransfer import map_tables, workflow

workflow.run(snakemake, map_tables.tabulate_canvases)
