from histotransfer import evaluation, workflow

workflow.run(snakemake, evaluation.score)
