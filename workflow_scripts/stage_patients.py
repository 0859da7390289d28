from histotransfer import workflow
from histotransfer.maps import staging

workflow.run(snakemake, staging.stage_patients)
