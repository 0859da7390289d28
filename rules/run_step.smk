# What every rule has that runs a function of the library: `use rule run_step as ... with:`. Memory and time go by the
# size of its input files, unless it says otherwise.
rule run_step:
    log:
        "logs/run_step.log",
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **REQUESTS.by_files(),
    script:
        "../workflow_scripts/run_step.py"
