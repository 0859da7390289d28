from histotransfer import workflow
from histotransfer.figures import grad_cam

workflow.run(snakemake, grad_cam.draw)
