from histotransfer import slide_images, workflow

workflow.run(snakemake, slide_images.write_slide_image)
