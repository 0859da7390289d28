from histotransfer import end_to_end, workflow

workflow.run(snakemake, end_to_end.train_end_to_end)
