from histotransfer import comparison_figures, workflow

workflow.run(snakemake, comparison_figures.draw_differences)
