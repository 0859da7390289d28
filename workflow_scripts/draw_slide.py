from histotransfer import demo, workflow

workflow.run(snakemake, demo.draw_slide)
