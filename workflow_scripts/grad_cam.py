from histotransfer import grad_cam, workflow

workflow.run(snakemake, grad_cam.draw)
