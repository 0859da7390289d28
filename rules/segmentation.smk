# Segmentation networks, which see the map of a slide at once. Needs features (or the slides, reduced), labels, the split.
# Gives results/{dataset}/models/{task}/{split}/{seed}/{features}/{classifier}/: the network as model.keras, predictions
# in the form of every strategy, its history, and canvases.tsv, what of each slide lies on its canvas. End-to-end
# learning adds extractor.keras, and moved.tsv, the share of weights that its steps moved.

SEGMENTATION_FACTORS = dict(
    recipe=segmenter_recipe,
    canvas=of_dataset("canvas"),
    features_name="{features}",
    classifier_name="{classifier}",
    classes=classes,
    split=lambda wildcards: STUDY.splits[wildcards.split],
    dataset="{dataset}",
    task="{task}",
    split_name="{split}",
    split_seed=lambda wildcards: int(wildcards.seed),
    master_seed=STUDY.master_seed,
    arithmetic_threads=STUDY.training["threads"],
    resume="results/.resume",
)


rule slide_image:
    input:
        slide_file=slide_file,
        grid="results/{dataset}/tiles/{slide}.h5",
    output:
        image=SLIDE_IMAGE,
    log:
        "logs/{dataset}/slide_image/{cell_px}/{slide}.log",
    benchmark:
        "benchmarks/{dataset}/slide_image/{cell_px}/{slide}.tsv"
    wildcard_constraints:
        dataset=SLIDES,
        cell_px=r"\d+",
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("slide_image"),
    params:
        cell_px=lambda wildcards: int(wildcards.cell_px),
        tiling=tiling("level", "grayscale", "upsample"),
        **step("tables.slide_images.write_slide_image"),
    message:
        "Reducing slide {wildcards.slide} of {wildcards.dataset} to {wildcards.cell_px} px a grid cell"
    script:
        "../workflow_scripts/run_step.py"


rule train_unet:
    input:
        features=feature_files,
        labels=["results/{dataset}/labels/{task}.tsv"],
        slides_table="results/{dataset}/slides.tsv",
        split_file="results/{dataset}/splits/{split}/{seed}.tsv",
    output:
        model=f"{RUN}/model.keras",
        predictions=f"{RUN}/predictions.h5",
        history=f"{RUN}/history.tsv",
        curve=f"{RUN}/curve.tsv",
        canvases=f"{RUN}/canvases.tsv",
    log:
        "logs/{dataset}/train_unet/{task}/{split}/{seed}/{features}/{classifier}.log",
    benchmark:
        "benchmarks/{dataset}/train_unet/{task}/{split}/{seed}/{features}/{classifier}.tsv"
    wildcard_constraints:
        dataset=SLIDES,
        features=TRAINED,
        classifier=UNETS,
    conda:
        "../envs/histotransfer.yaml"
    threads: STUDY.training["threads"]
    resources:
        **needed(of_segmentation),
        gpu=GPU,
    params:
        **SEGMENTATION_FACTORS,
        classifier=segmenter("kind", "filters", "depth", "standardise"),
        feature_set=lambda wildcards: STUDY.feature_sets[wildcards.features].definition,
        **step("segmentation.unet_training.train_unet"),
    message:
        "Training {wildcards.classifier} on maps of {wildcards.features}: {wildcards.dataset}, {wildcards.task}, {wildcards.split}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/run_step.py"


rule train_end_to_end:
    input:
        pixels=extractor_pixels,
        extractor=extractor_model,
        segmentation=first_segmentation,
        labels=["results/{dataset}/labels/{task}.tsv"],
        slides_table="results/{dataset}/slides.tsv",
        split_file="results/{dataset}/splits/{split}/{seed}.tsv",
    output:
        model=f"{RUN}/model.keras",
        trained_extractor=f"{RUN}/extractor.keras",
        predictions=f"{RUN}/predictions.h5",
        history=f"{RUN}/history.tsv",
        curve=f"{RUN}/curve.tsv",
        canvases=f"{RUN}/canvases.tsv",
        moved=f"{RUN}/moved.tsv",
    log:
        "logs/{dataset}/train_end_to_end/{task}/{split}/{seed}/{features}/{classifier}.log",
    benchmark:
        "benchmarks/{dataset}/train_end_to_end/{task}/{split}/{seed}/{features}/{classifier}.tsv"
    wildcard_constraints:
        dataset=SLIDES,
        classifier=END_TO_END,
    conda:
        "../envs/histotransfer.yaml"
    threads: STUDY.training["threads"]
    resources:
        **needed(of_end_to_end),
        gpu=GPU,
    params:
        **SEGMENTATION_FACTORS,
        classifier=segmenter("kind", "filters", "depth", "standardise"),
        start=of_extractor("start"),
        start_name=of_extractor("start_name"),
        network_name=of_extractor("name"),
        layer=lambda wildcards: trained_extractor(wildcards)[1],
        **step("segmentation.end_to_end.train_end_to_end"),
    message:
        "Training {wildcards.features} and {wildcards.classifier} end to end: {wildcards.dataset}, {wildcards.task}, {wildcards.split}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/run_step.py"
