# Sheets. Needs somebody's table of images (a CSV) and the folder of its image files.
# Gives results/{dataset}/sheet.tsv, the sample sheet of the rows that can be used, and left_out.json: how many could not
# be, and why.


rule filter_table:
    input:
        source=lambda wildcards: dataset(wildcards).table["source"],
    output:
        sheet="results/{dataset}/sheet.tsv",
        left_out="results/{dataset}/left_out.json",
    log:
        "logs/{dataset}/filter_table.log",
    benchmark:
        "benchmarks/{dataset}/filter_table.tsv"
    wildcard_constraints:
        dataset=FILTERED,
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("filter_table"),
    params:
        root=of_dataset("root"),
        needs=sheet_check("needs"),
        labels=sheet_check("labels"),
        separator=of_table("separator"),
        columns=of_table("columns"),
        several_labels=of_table("several_labels"),
        unlabelled=of_table("unlabelled"),
        repeated=of_table("repeated"),
        missing_files=of_table("missing_files"),
        **step("sheets.foreign_tables.filter_rows"),
    message:
        "Taking from the table of {wildcards.dataset} the images that can be used"
    script:
        "../workflow_scripts/run_step.py"
