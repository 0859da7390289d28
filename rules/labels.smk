# Labels. Needs tiles (and regions drawn on the slides, where a task has them), or a sheet of patches or points.
# Gives results/{dataset}/labels/{task}/{slide}.tsv, and {task}.tsv with those of all slides. Joined first at the
# classifiers: a corrected label re-extracts nothing.


rule label_tiles:
    input:
        grid="results/{dataset}/tiles/{slide}.h5",
    output:
        labels="results/{dataset}/labels/{task}/{slide}.tsv",
    log:
        "logs/{dataset}/label_tiles/{task}/{slide}.log",
    benchmark:
        "benchmarks/{dataset}/label_tiles/{task}/{slide}.tsv"
    wildcard_constraints:
        dataset=SLIDES,
        task=BY_SHEET,
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("label_tiles"),
    params:
        group=owner_of_slide,
        label=of_slide("label"),
        classes=classes_of_labels,
        **step("cohort.labels.label_slide"),
    message:
        "Labelling slide {wildcards.slide} of {wildcards.dataset} for {wildcards.task}"
    script:
        "../workflow_scripts/run_step.py"


rule label_regions:
    input:
        grid="results/{dataset}/tiles/{slide}.h5",
        description="results/{dataset}/slides/{slide}.json",
        annotation=annotation_file,
    output:
        labels="results/{dataset}/labels/{task}/{slide}.tsv",
        fractions="results/{dataset}/labels/{task}/{slide}.fractions.tsv",
    log:
        "logs/{dataset}/label_regions/{task}/{slide}.log",
    benchmark:
        "benchmarks/{dataset}/label_regions/{task}/{slide}.tsv"
    wildcard_constraints:
        dataset=SLIDES,
        task=BY_REGIONS,
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("label_regions"),
    params:
        group=owner_of_slide,
        label=of_slide("label"),
        classes=classes_of_labels,
        class_names=classes,
        regions=regions,
        **step("cohort.labels.label_regions"),
    message:
        "Labelling slide {wildcards.slide} of {wildcards.dataset} for {wildcards.task} by its regions"
    script:
        "../workflow_scripts/run_step.py"


rule label_part:
    input:
        sheet=of_dataset("sheet"),
        table="results/{dataset}/table.json",
    output:
        labels="results/{dataset}/labels/{task}/{slide}.tsv",
    log:
        "logs/{dataset}/label_part/{task}/{slide}.log",
    benchmark:
        "benchmarks/{dataset}/label_part/{task}/{slide}.tsv"
    wildcard_constraints:
        dataset=TABLES,
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("label_part"),
    params:
        kind=of_dataset("kind"),
        root=of_dataset("root"),
        part="{slide}",
        n_parts=n_parts,
        classes=classes_of_labels,
        **step("cohort.labels.label_part"),
    message:
        "Labelling {wildcards.slide} of {wildcards.dataset} for {wildcards.task}"
    script:
        "../workflow_scripts/run_step.py"


rule gather_labels:
    input:
        label_files=each_slide("results/{dataset}/labels/{task}/{slide}.tsv"),
    output:
        labels="results/{dataset}/labels/{task}.tsv",
    log:
        "logs/{dataset}/gather_labels/{task}.log",
    benchmark:
        "benchmarks/{dataset}/gather_labels/{task}.tsv"
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("gather_labels"),
    params:
        **step("cohort.labels.gather"),
    message:
        "Gathering the labels of {wildcards.dataset} for {wildcards.task}"
    script:
        "../workflow_scripts/run_step.py"
