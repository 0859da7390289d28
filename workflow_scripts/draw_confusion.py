from histotransfer import workflow
from histotransfer.figures import score_figures

workflow.run(snakemake, score_figures.draw_confusion)
