from histotransfer import segmentation, workflow

workflow.run(snakemake, segmentation.train_unet)
