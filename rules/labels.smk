# Labels. Needs tiles (and regions drawn on the slides, where a task has them), or a sheet of patches or points.
# Gives results/{dataset}/labels/{task}/{slide}.tsv, and {task}.tsv with those of all slides. Joined first at the
# classifiers: a corrected label re-extracts nothing.


use rule run_step as label_tiles with:
    input:
        grid=paths.GRID,
    output:
        labels=paths.SLIDE_LABELS,
    log:
        "logs/{dataset}/label_tiles/{task}/{slide}.log",
    benchmark:
        "benchmarks/{dataset}/label_tiles/{task}/{slide}.tsv"
    wildcard_constraints:
        dataset=SLIDES,
        task=BY_SHEET,
    params:
        **step("cohort.labels.label_slide"),
        group=get_owner,
        label=pick(get_slide, "label"),
        classes=pick(get_task, "labels"),
    message:
        "Labelling slide {wildcards.slide} of {wildcards.dataset} for {wildcards.task}"


use rule run_step as label_regions with:
    input:
        grid=paths.GRID,
        description=paths.DESCRIPTION,
        annotation=path_of_annotation,
    output:
        labels=paths.SLIDE_LABELS,
        fractions="results/{dataset}/labels/{task}/{slide}.fractions.tsv",
    log:
        "logs/{dataset}/label_regions/{task}/{slide}.log",
    benchmark:
        "benchmarks/{dataset}/label_regions/{task}/{slide}.tsv"
    wildcard_constraints:
        dataset=SLIDES,
        task=BY_REGIONS,
    params:
        **step("cohort.labels.label_regions"),
        group=get_owner,
        label=pick(get_slide, "label"),
        classes=pick(get_task, "labels"),
        class_names=get_classes,
        regions=pick(get_task, "regions"),
    message:
        "Labelling slide {wildcards.slide} of {wildcards.dataset} for {wildcards.task} by its regions"


use rule run_step as label_part with:
    input:
        sheet=pick(get_dataset, "sheet"),
        table=paths.CHECKED_SHEET,
    output:
        labels=paths.SLIDE_LABELS,
    log:
        "logs/{dataset}/label_part/{task}/{slide}.log",
    benchmark:
        "benchmarks/{dataset}/label_part/{task}/{slide}.tsv"
    wildcard_constraints:
        dataset=TABLES,
    params:
        **step("cohort.labels.label_part"),
        kind=pick(get_dataset, "kind"),
        root=pick(get_dataset, "root"),
        part="{slide}",
        n_parts=lambda wildcards: len(get_dataset(wildcards).parts),
        classes=pick(get_task, "labels"),
    message:
        "Labelling {wildcards.slide} of {wildcards.dataset} for {wildcards.task}"


use rule run_step as gather_labels with:
    input:
        label_files=paths_of_slides(paths.SLIDE_LABELS),
    output:
        labels=paths.LABELS,
    log:
        "logs/{dataset}/gather_labels/{task}.log",
    benchmark:
        "benchmarks/{dataset}/gather_labels/{task}.tsv"
    params:
        **step("cohort.labels.gather"),
    message:
        "Gathering the labels of {wildcards.dataset} for {wildcards.task}"
