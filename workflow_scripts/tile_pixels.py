from histotransfer import pixels, workflow

workflow.run(snakemake, pixels.write_pixels)
