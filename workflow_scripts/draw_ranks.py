from histotransfer import workflow
from histotransfer.figures import rank_figures

workflow.run(snakemake, rank_figures.draw_ranks)
