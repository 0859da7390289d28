from histotransfer import figures, workflow

workflow.run(snakemake, figures.draw_attrition)
