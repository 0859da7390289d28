# Maps. Needs predictions on slides with drawn regions, their grids and overlays.
# Gives beside each model maps.json and maps/: each slide's probabilities as an image with its place, an overlay, and
# GeoJSON for QuPath; results/{dataset}/figures/annotations/{task}/: slides with their regions and labels; and
# results/studies/{study}/maps/: the methods in one table and side by side, isolated false tiles, what canvases cut off.

OF_SLIDES = dict(
    grids=each_slide("results/{dataset}/tiles/{slide}.h5"),
    descriptions=each_slide("results/{dataset}/slides/{slide}.json"),
    overlays=each_slide("results/{dataset}/tissue/{slide}.jpg"),
)


rule write_maps:
    input:
        **OF_SLIDES,
        predictions=f"{RUN}/predictions.h5",
    output:
        index=f"{RUN}/maps.json",
    log:
        "logs/{dataset}/write_maps/{task}/{split}/{seed}/{features}/{classifier}.log",
    benchmark:
        "benchmarks/{dataset}/write_maps/{task}/{split}/{seed}/{features}/{classifier}.tsv"
    wildcard_constraints:
        dataset=SLIDES,
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("write_maps"),
    params:
        **step("maps.probability_maps.write_maps"),
    message:
        "Writing the maps of {wildcards.features}+{wildcards.classifier}: {wildcards.dataset}, {wildcards.task}, {wildcards.split}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/run_step.py"


rule draw_maps:
    input:
        **OF_SLIDES,
        predictions=lambda wildcards: [
            f"{RUN}/predictions.h5".format(**one) for one in CONTENTS.map_runs(**factors_of_map(wildcards))
        ],
    output:
        figure=report(
            f"{MAPS}/{{split}}/{{dataset}}/{{task}}/{{seed}}.svg",
            caption="report/maps.rst",
            category="Maps",
            subcategory="{dataset}",
            labels={"task": "{task}", "split": "{split}", "seed": "{seed}"},
        ),
    log:
        "logs/studies/{study}/draw_maps/{split}/{dataset}/{task}/{seed}.log",
    benchmark:
        "benchmarks/studies/{study}/draw_maps/{split}/{dataset}/{task}/{seed}.tsv"
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("draw_maps"),
    params:
        master_seed=STUDY.master_seed,
        **step("figures.map_figures.draw_maps"),
    message:
        "Drawing the maps of all methods: {wildcards.dataset}, {wildcards.task}, {wildcards.split}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/run_step.py"


rule draw_annotation:
    input:
        overlay="results/{dataset}/tissue/{slide}.jpg",
        grid="results/{dataset}/tiles/{slide}.h5",
        description="results/{dataset}/slides/{slide}.json",
        labels="results/{dataset}/labels/{task}/{slide}.tsv",
        annotation=annotation_file,
    output:
        figure=report(
            "results/{dataset}/figures/annotations/{task}/{slide}.jpg",
            caption="report/annotations.rst",
            category="Maps",
            subcategory="{dataset}",
            labels={"task": "{task}", "slide": "{slide}"},
        ),
    log:
        "logs/{dataset}/draw_annotation/{task}/{slide}.log",
    benchmark:
        "benchmarks/{dataset}/draw_annotation/{task}/{slide}.tsv"
    wildcard_constraints:
        dataset=SLIDES,
        task=BY_REGIONS,
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("draw_annotation"),
    params:
        regions=regions,
        class_names=classes,
        **step("figures.annotation_pictures.draw_annotation"),
    message:
        "Drawing the regions of slide {wildcards.slide} of {wildcards.dataset}: {wildcards.task}"
    script:
        "../workflow_scripts/run_step.py"


rule tabulate_points:
    input:
        predictions=lambda wildcards: [
            f"{RUN}/predictions.h5".format(**one) for one in CONTENTS.map_runs(split=wildcards.split)
        ],
    output:
        table=f"{MAPS}/{{split}}/points.csv",
    log:
        "logs/studies/{study}/tabulate_points/{split}.log",
    benchmark:
        "benchmarks/studies/{study}/tabulate_points/{split}.tsv"
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("tabulate_points"),
    params:
        split="{split}",
        **step("maps.tumour_points.tabulate"),
    message:
        "Counting isolated false tiles, split {wildcards.split}"
    script:
        "../workflow_scripts/run_step.py"


rule tabulate_map_methods:
    input:
        scores="results/studies/{study}/scores.tsv",
        points=f"{MAPS}/{{split}}/points.csv",
    output:
        table=f"{MAPS}/{{split}}/methods.csv",
    log:
        "logs/studies/{study}/tabulate_map_methods/{split}.log",
    benchmark:
        "benchmarks/studies/{study}/tabulate_map_methods/{split}.tsv"
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("tabulate_map_methods"),
    params:
        methods=[method.name for method in CONTENTS.methods],
        datasets=list(CONTENTS.mapped),
        split="{split}",
        **step("maps.map_tables.tabulate_methods"),
    message:
        "Putting the methods on maps into one table, split {wildcards.split}"
    script:
        "../workflow_scripts/run_step.py"


rule tabulate_canvases:
    input:
        canvases=[f"{RUN}/canvases.tsv".format(**one) for one in CONTENTS.segmentations()],
    output:
        table=f"{MAPS}/canvases.csv",
    log:
        "logs/studies/{study}/tabulate_canvases.log",
    benchmark:
        "benchmarks/studies/{study}/tabulate_canvases.tsv"
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("tabulate_canvases"),
    params:
        of=CONTENTS.segmentations(),
        **step("maps.map_tables.tabulate_canvases"),
    message:
        "Collecting what canvases cut off"
    script:
        "../workflow_scripts/run_step.py"


rule tabulate_moved:
    input:
        moved=lambda wildcards: [
            f"{RUN}/moved.tsv".format(**one) for one in CONTENTS.segmentations("end_to_end", split=wildcards.split)
        ],
    output:
        table=f"{MAPS}/{{split}}/moved.csv",
    log:
        "logs/studies/{study}/tabulate_moved/{split}.log",
    benchmark:
        "benchmarks/studies/{study}/tabulate_moved/{split}.tsv"
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("tabulate_moved"),
    params:
        of=lambda wildcards: CONTENTS.segmentations("end_to_end", split=wildcards.split),
        **step("maps.map_tables.tabulate_moved"),
    message:
        "Collecting what end-to-end steps moved, split {wildcards.split}"
    script:
        "../workflow_scripts/run_step.py"
