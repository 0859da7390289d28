from histotransfer import annotation_pictures, workflow

workflow.run(snakemake, annotation_pictures.draw_annotation)
