# Slides. Needs the sample sheet and the slides' files.
# Gives results/{dataset}/slides/{slide}.json: reader, size, levels, resolution and who states it, or status and reason.


OF_LESIONS = dict(
    slide="{slide}",
    label=of_drawn("label"),
    drawing=of_drawn("drawing"),
    master_seed=STUDY.master_seed,
)


rule draw_slide:
    output:
        slide_file="results/drawn/{slide}.tif",
    log:
        "logs/drawn/draw_slide/{slide}.log",
    benchmark:
        "benchmarks/drawn/draw_slide/{slide}.tsv"
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("draw_slide"),
    params:
        slide="{slide}",
        patient=of_drawn("patient"),
        label=of_drawn("label"),
        drawing=of_drawn("drawing"),
        master_seed=STUDY.master_seed,
        **step("drawn.demo.draw_slide"),
    message:
        "Drawing slide {wildcards.slide}"
    script:
        "../workflow_scripts/run_step.py"


rule draw_lesions:
    output:
        slide_file="results/drawn/annotated/{slide}.tif",
    log:
        "logs/drawn/draw_lesions/{slide}.log",
    benchmark:
        "benchmarks/drawn/draw_lesions/{slide}.tsv"
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("draw_lesions"),
    params:
        **OF_LESIONS,
        patient=of_drawn("patient"),
        **step("drawn.lesions.draw_lesions"),
    message:
        "Drawing slide {wildcards.slide} with its lesions"
    script:
        "../workflow_scripts/run_step.py"


rule draw_regions:
    output:
        annotation="results/drawn/annotated/{slide}.{format}",
    log:
        "logs/drawn/draw_regions/{slide}.{format}.log",
    benchmark:
        "benchmarks/drawn/draw_regions/{slide}.{format}.tsv"
    wildcard_constraints:
        format="xml|geojson|png",
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("draw_regions"),
    params:
        **OF_LESIONS,
        **step("drawn.lesion_regions.draw_regions"),
    message:
        "Annotating the drawn slide {wildcards.slide}"
    script:
        "../workflow_scripts/run_step.py"


rule inspect_slide:
    input:
        slide_file=slide_file,
    output:
        description="results/{dataset}/slides/{slide}.json",
    log:
        "logs/{dataset}/inspect_slide/{slide}.log",
    benchmark:
        "benchmarks/{dataset}/inspect_slide/{slide}.tsv"
    wildcard_constraints:
        dataset=SLIDES,
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("inspect_slide"),
    params:
        slide="{slide}",
        image_in_sheet=of_slide("image_in_sheet"),
        path=of_slide("path_in_sheet"),
        sheet_mpp=of_slide("mpp"),
        missing_mpp=STUDY.missing_mpp,
        **step("slides.reader.inspect_slide"),
    message:
        "Inspecting slide {wildcards.slide} of {wildcards.dataset}"
    script:
        "../workflow_scripts/run_step.py"


rule slides:
    input:
        study_wide("results/{dataset}/slides/{slide}.json", kinds=["slides"]),
