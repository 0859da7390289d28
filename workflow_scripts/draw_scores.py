from histotransfer import score_figures, workflow

workflow.run(snakemake, score_figures.draw_scores)
