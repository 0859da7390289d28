from histotransfer import workflow
from histotransfer.segmentation import unet_training

workflow.run(snakemake, unet_training.train_unet)
