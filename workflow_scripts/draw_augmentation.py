from histotransfer import augmentation_pictures, workflow

workflow.run(snakemake, augmentation_pictures.draw_augmentation)
