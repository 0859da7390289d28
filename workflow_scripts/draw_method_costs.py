from histotransfer import workflow
from histotransfer.figures import method_cost_figure

workflow.run(snakemake, method_cost_figure.draw_method_costs)
