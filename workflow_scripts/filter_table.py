from histotransfer import csv_sheets, workflow

workflow.run(snakemake, csv_sheets.filter_rows)
