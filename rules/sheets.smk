# Sheets. Needs a third-party table of images (a CSV) and the folder of its image files.
# Gives results/{dataset}/sheet.tsv, the sample sheet of the rows that can be used, and left_out.json: how many could not
# be, and why.


use rule run_step as filter_table with:
    input:
        source=pick(get_dataset, "table", "source"),
    output:
        sheet=paths.SHEET,
        left_out=paths.LEFT_OUT,
    log:
        "logs/{dataset}/filter_table.log",
    benchmark:
        "benchmarks/{dataset}/filter_table.tsv"
    wildcard_constraints:
        dataset=FILTERED,
    params:
        **step("sheets.foreign_tables.filter_rows"),
        root=pick(get_dataset, "root"),
        needs=pick(get_dataset, "sheet_check", "needs"),
        labels=pick(get_dataset, "sheet_check", "labels"),
        separator=pick(get_dataset, "table", "separator"),
        columns=pick(get_dataset, "table", "columns"),
        several_labels=pick(get_dataset, "table", "several_labels"),
        unlabelled=pick(get_dataset, "table", "unlabelled"),
        repeated=pick(get_dataset, "table", "repeated"),
        missing_files=pick(get_dataset, "table", "missing_files"),
    message:
        "Taking from the table of {wildcards.dataset} the images that can be used"
