from histotransfer import workflow
from histotransfer.sheets import foreign_tables

workflow.run(snakemake, foreign_tables.filter_rows)
