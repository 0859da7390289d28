# Cohort. Needs slides, tiles and pixels (or features, where pixels are streamed).
# Gives results/{dataset}/slides.tsv: every image asked for, and why it is not used. Alone knows `on_bad_slide`.


use rule run_step as cohort with:
    input:
        descriptions=paths_of_slides(paths.DESCRIPTION),
        grids=paths_of_slides(paths.GRID),
        cut=paths_where_slides_fail,
    output:
        slides_table=paths.SLIDES_TABLE,
    log:
        "logs/{dataset}/cohort.log",
    benchmark:
        "benchmarks/{dataset}/cohort.tsv"
    wildcard_constraints:
        dataset=SLIDES,
    params:
        **step("cohort.cohort.gather_slides"),
        sheet_rows=get_sheet_rows,
        on_bad_slide=STUDY.on_bad_slide,
    message:
        "Gathering which slides of {wildcards.dataset} are in the study"


use rule run_step as cohort_of_table with:
    input:
        sheet=pick(get_dataset, "sheet"),
        table=paths.CHECKED_SHEET,
        cut=paths_where_slides_fail,
        left_out=path_of_left_out,
    output:
        slides_table=paths.SLIDES_TABLE,
    log:
        "logs/{dataset}/cohort_of_table.log",
    benchmark:
        "benchmarks/{dataset}/cohort_of_table.tsv"
    wildcard_constraints:
        dataset=TABLES,
    params:
        **step("cohort.cohort.gather_table"),
        kind=pick(get_dataset, "kind"),
        root=pick(get_dataset, "root"),
        on_bad_slide=STUDY.on_bad_slide,
    message:
        "Gathering which images of {wildcards.dataset} are in the study"
