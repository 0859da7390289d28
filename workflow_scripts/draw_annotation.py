from histotransfer import workflow
from histotransfer.figures import annotation_pictures

workflow.run(snakemake, annotation_pictures.draw_annotation)
