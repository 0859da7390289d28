from histotransfer import workflow
from histotransfer.report import pages

workflow.run(snakemake, pages.write_run_page)
