from histotransfer import image_files, workflow

workflow.run(snakemake, image_files.write_images)
