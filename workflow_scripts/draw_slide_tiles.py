from histotransfer import pictures, workflow

workflow.run(snakemake, pictures.draw_slide)
