from histotransfer import workflow
from histotransfer.slides import image_files

workflow.run(snakemake, image_files.write_images)
