# Maps. Needs predictions on slides with drawn regions, their grids and overlays.
# Gives beside each model maps.json and maps/: each slide's probabilities as an image with its place, an overlay, and
# GeoJSON for QuPath; results/{dataset}/figures/annotations/{task}/: slides with their regions and labels; and
# results/studies/{study}/maps/: the methods in one table and side by side, isolated false tiles, what canvases cut off.


SLIDES_BEHIND_MAPS = dict(
    grids=paths_of_slides(paths.GRID),
    descriptions=paths_of_slides(paths.DESCRIPTION),
    overlays=paths_of_slides(paths.TISSUE_OVERLAY),
)


use rule run_step as write_maps with:
    input:
        **SLIDES_BEHIND_MAPS,
        predictions=paths.PREDICTIONS,
    output:
        index=paths.MAPS_INDEX,
    log:
        "logs/{dataset}/write_maps/{task}/{split}/{seed}/{features}/{classifier}.log",
    benchmark:
        "benchmarks/{dataset}/write_maps/{task}/{split}/{seed}/{features}/{classifier}.tsv"
    wildcard_constraints:
        dataset=SLIDES,
    params:
        **step("maps.probability_maps.write_maps"),
    message:
        "Writing the maps of {wildcards.features}+{wildcards.classifier}: {wildcards.dataset}, {wildcards.task}, {wildcards.split}, seed {wildcards.seed}"


use rule run_step as draw_maps with:
    input:
        **SLIDES_BEHIND_MAPS,
        predictions=paths_of_map_predictions,
    output:
        figure=report(paths.MAPS_FIGURE, **in_report("maps", "Maps", "task", "split", "seed", subcategory="{dataset}")),
    log:
        "logs/studies/{study}/draw_maps/{split}/{dataset}/{task}/{seed}.log",
    benchmark:
        "benchmarks/studies/{study}/draw_maps/{split}/{dataset}/{task}/{seed}.tsv"
    params:
        **step("figures.map_figures.draw_maps"),
        master_seed=STUDY.master_seed,
    message:
        "Drawing the maps of all methods: {wildcards.dataset}, {wildcards.task}, {wildcards.split}, seed {wildcards.seed}"


use rule run_step as draw_annotation with:
    input:
        overlay=paths.TISSUE_OVERLAY,
        grid=paths.GRID,
        description=paths.DESCRIPTION,
        labels=paths.SLIDE_LABELS,
        annotation=path_of_annotation,
    output:
        figure=report(
            paths.ANNOTATION_PICTURE, **in_report("annotations", "Maps", "task", "slide", subcategory="{dataset}")
        ),
    log:
        "logs/{dataset}/draw_annotation/{task}/{slide}.log",
    benchmark:
        "benchmarks/{dataset}/draw_annotation/{task}/{slide}.tsv"
    wildcard_constraints:
        dataset=SLIDES,
        task=BY_REGIONS,
    params:
        **step("figures.annotation_pictures.draw_annotation"),
        regions=pick(get_task, "regions"),
        class_names=get_classes,
    message:
        "Drawing the regions of slide {wildcards.slide} of {wildcards.dataset}: {wildcards.task}"


use rule run_step as tabulate_points with:
    input:
        predictions=paths_of_map_predictions,
    output:
        table=f"{paths.MAPS}/points.csv",
    log:
        "logs/studies/{study}/tabulate_points/{split}.log",
    benchmark:
        "benchmarks/studies/{study}/tabulate_points/{split}.tsv"
    params:
        **step("maps.tumour_points.tabulate"),
        split="{split}",
    message:
        "Counting isolated false tiles, split {wildcards.split}"


use rule run_step as tabulate_map_methods with:
    input:
        scores=paths.SCORES,
        points=f"{paths.MAPS}/points.csv",
    output:
        table=f"{paths.MAPS}/methods.csv",
    log:
        "logs/studies/{study}/tabulate_map_methods/{split}.log",
    benchmark:
        "benchmarks/studies/{study}/tabulate_map_methods/{split}.tsv"
    params:
        **step("maps.map_tables.tabulate_methods"),
        methods=[method.name for method in CONTENTS.methods],
        datasets=list(CONTENTS.mapped),
        split="{split}",
    message:
        "Putting the methods on maps into one table, split {wildcards.split}"


use rule run_step as tabulate_canvases with:
    input:
        canvases=paths.filled(f"{paths.RUN}/canvases.tsv", CONTENTS.segmentations()),
    output:
        table=f"{paths.STUDY_MAPS}/canvases.csv",
    log:
        "logs/studies/{study}/tabulate_canvases.log",
    benchmark:
        "benchmarks/studies/{study}/tabulate_canvases.tsv"
    params:
        **step("maps.map_tables.tabulate_canvases"),
        runs=plain(CONTENTS.segmentations()),
    message:
        "Collecting what canvases cut off"


use rule run_step as tabulate_moved with:
    input:
        moved=lambda wildcards: paths.filled(f"{paths.RUN}/moved.tsv", get_moved(wildcards)),
    output:
        table=f"{paths.MAPS}/moved.csv",
    log:
        "logs/studies/{study}/tabulate_moved/{split}.log",
    benchmark:
        "benchmarks/studies/{study}/tabulate_moved/{split}.tsv"
    params:
        **step("maps.map_tables.tabulate_moved"),
        runs=plainly(get_moved),
    message:
        "Collecting what end-to-end steps moved, split {wildcards.split}"
