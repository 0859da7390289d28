# Pictures to look at. Needs tissue, tiles, pixels and labels. Gives results/{dataset}/figures/: each slide with its
# kept tiles, and sample tiles of each class.


rule draw_slide_tiles:
    input:
        overlay="results/{dataset}/tissue/{slide}.jpg",
        grid="results/{dataset}/tiles/{slide}.h5",
        description="results/{dataset}/slides/{slide}.json",
    output:
        figure=report(
            "results/{dataset}/figures/slides/{slide}.jpg",
            caption="report/slides.rst",
            category="Slides",
            subcategory="{dataset}",
            labels={"slide": "{slide}"},
        ),
    log:
        "logs/{dataset}/draw_slide_tiles/{slide}.log",
    benchmark:
        "benchmarks/{dataset}/draw_slide_tiles/{slide}.tsv"
    wildcard_constraints:
        dataset=SLIDES,
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("draw_slide_tiles"),
    params:
        **step("figures.pictures.draw_slide"),
    message:
        "Drawing the tiles of slide {wildcards.slide} of {wildcards.dataset}"
    script:
        "../workflow_scripts/run_step.py"


rule draw_tiles:
    input:
        pixels=lambda wildcards: each_slide(
            "results/{dataset}/pixels/{px}/{slide}.h5", px=max(STUDY.px_of(wildcards.dataset))
        )(wildcards),
        label_files=each_slide("results/{dataset}/labels/{task}/{slide}.tsv"),
    output:
        figure=report(
            "results/{dataset}/figures/{task}/tiles-{class_number}.jpg",
            caption="report/tiles.rst",
            category="Tiles",
            subcategory="{dataset}",
            labels={"task": "{task}", "class": "{class_number}"},
        ),
    log:
        "logs/{dataset}/draw_tiles/{task}/{class_number}.log",
    benchmark:
        "benchmarks/{dataset}/draw_tiles/{task}/{class_number}.tsv"
    wildcard_constraints:
        class_number=r"\d+",
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("draw_tiles"),
    params:
        class_name=lambda wildcards: classes(wildcards)[int(wildcards.class_number)],
        per_class=12,
        master_seed=STUDY.master_seed,
        noun=noun,
        **step("figures.pictures.draw_tiles"),
    message:
        "Drawing sample tiles of {wildcards.dataset}, {wildcards.task}, class {wildcards.class_number}"
    script:
        "../workflow_scripts/run_step.py"
