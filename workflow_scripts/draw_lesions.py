from histotransfer import lesions, workflow

workflow.run(snakemake, lesions.draw_lesions)
