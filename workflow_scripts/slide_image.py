from histotransfer import workflow
from histotransfer.tables import slide_images

workflow.run(snakemake, slide_images.write_slide_image)
