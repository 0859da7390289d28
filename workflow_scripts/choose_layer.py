from histotransfer import layer_choice, workflow

workflow.run(snakemake, layer_choice.choose)
