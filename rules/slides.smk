# Slides. Needs the sample sheet and the slides' files.
# Gives results/{dataset}/slides/{slide}.json: reader, size, levels, resolution and who states it, or status and reason.


DRAWING = dict(
    slide="{slide}",
    label=pick(get_drawn_slide, "label"),
    drawing=pick(get_drawn_slide, "drawing"),
    master_seed=STUDY.master_seed,
)


use rule run_step as draw_slide with:
    output:
        slide_file="results/drawn/{slide}.tif",
    log:
        "logs/drawn/draw_slide/{slide}.log",
    benchmark:
        "benchmarks/drawn/draw_slide/{slide}.tsv"
    params:
        **step("drawn.demo.draw_slide"),
        **DRAWING,
        patient=pick(get_drawn_slide, "patient"),
    message:
        "Drawing slide {wildcards.slide}"


use rule run_step as draw_lesions with:
    output:
        slide_file="results/drawn/annotated/{slide}.tif",
    log:
        "logs/drawn/draw_lesions/{slide}.log",
    benchmark:
        "benchmarks/drawn/draw_lesions/{slide}.tsv"
    params:
        **DRAWING,
        **step("drawn.lesions.draw_lesions"),
        patient=pick(get_drawn_slide, "patient"),
    message:
        "Drawing slide {wildcards.slide} with its lesions"


use rule run_step as draw_regions with:
    output:
        annotation="results/drawn/annotated/{slide}.{format}",
    log:
        "logs/drawn/draw_regions/{slide}.{format}.log",
    benchmark:
        "benchmarks/drawn/draw_regions/{slide}.{format}.tsv"
    wildcard_constraints:
        format="xml|geojson|png",
    params:
        **DRAWING,
        **step("drawn.lesion_regions.draw_regions"),
    message:
        "Annotating the drawn slide {wildcards.slide}"


use rule run_step as inspect_slide with:
    input:
        slide_file=path_of_slide_file,
    output:
        description=paths.DESCRIPTION,
    log:
        "logs/{dataset}/inspect_slide/{slide}.log",
    benchmark:
        "benchmarks/{dataset}/inspect_slide/{slide}.tsv"
    wildcard_constraints:
        dataset=SLIDES,
    params:
        **step("slides.reader.inspect_slide"),
        slide="{slide}",
        image_in_sheet=pick(get_slide, "image_in_sheet"),
        path=pick(get_slide, "path_in_sheet"),
        sheet_mpp=pick(get_slide, "mpp"),
        missing_mpp=STUDY.missing_mpp,
    message:
        "Inspecting slide {wildcards.slide} of {wildcards.dataset}"


rule slides:
    input:
        paths_of_all_slides(paths.DESCRIPTION),
