from histotransfer import workflow
from histotransfer.segmentation import end_to_end

workflow.run(snakemake, end_to_end.train_end_to_end)
