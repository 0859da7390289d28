from histotransfer import workflow
from histotransfer.figures import augmentation_pictures

workflow.run(snakemake, augmentation_pictures.draw_augmentation)
