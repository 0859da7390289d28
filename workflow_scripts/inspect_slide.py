from histotransfer import slides, workflow

workflow.run(snakemake, slides.inspect_slide)
