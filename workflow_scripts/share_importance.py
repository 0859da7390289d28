from histotransfer import importance, workflow

workflow.run(snakemake, importance.share)
