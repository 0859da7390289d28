from histotransfer import report, workflow

workflow.run(snakemake, report.write_report)
