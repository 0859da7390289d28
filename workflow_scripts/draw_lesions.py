from histotransfer import workflow
from histotransfer.drawn import lesions

workflow.run(snakemake, lesions.draw_lesions)
