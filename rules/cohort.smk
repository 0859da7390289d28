# Cohort. Needs slides, tiles and pixels (or features, where pixels are streamed).
# Gives results/{dataset}/slides.tsv: every image asked for, and why it is not used. Alone knows `on_bad_slide`.


rule cohort:
    input:
        descriptions=each_slide("results/{dataset}/slides/{slide}.json"),
        grids=each_slide("results/{dataset}/tiles/{slide}.h5"),
        cut=where_slides_fail,
    output:
        slides_table="results/{dataset}/slides.tsv",
    log:
        "logs/{dataset}/cohort.log",
    benchmark:
        "benchmarks/{dataset}/cohort.tsv"
    wildcard_constraints:
        dataset=SLIDES,
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("cohort"),
    params:
        sheet_rows=cohort_rows,
        on_bad_slide=STUDY.on_bad_slide,
        **step("cohort.cohort.gather_slides"),
    message:
        "Gathering which slides of {wildcards.dataset} are in the study"
    script:
        "../workflow_scripts/run_step.py"


rule cohort_of_table:
    input:
        sheet=of_dataset("sheet"),
        table="results/{dataset}/table.json",
        cut=where_slides_fail,
        left_out=rows_left_out,
    output:
        slides_table="results/{dataset}/slides.tsv",
    log:
        "logs/{dataset}/cohort_of_table.log",
    benchmark:
        "benchmarks/{dataset}/cohort_of_table.tsv"
    wildcard_constraints:
        dataset=TABLES,
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("cohort_of_table"),
    params:
        kind=of_dataset("kind"),
        root=of_dataset("root"),
        on_bad_slide=STUDY.on_bad_slide,
        **step("cohort.cohort.gather_table"),
    message:
        "Gathering which images of {wildcards.dataset} are in the study"
    script:
        "../workflow_scripts/run_step.py"
