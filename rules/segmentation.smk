# Segmentation networks, which see the map of a slide at once. Needs features (or the slides, reduced), labels, the split.
# Gives results/{dataset}/models/{task}/{split}/{seed}/{features}/{classifier}/: the network as model.keras, predictions
# in the form of every strategy, its history, and canvases.tsv, what of each slide lies on its canvas. End-to-end
# learning adds extractor.keras, and moved.tsv, the share of weights that its steps moved.

SEGMENTATION_FILES = dict(
    model=f"{paths.RUN}/model.keras",
    predictions=paths.PREDICTIONS,
    history=f"{paths.RUN}/history.tsv",
    curve=f"{paths.RUN}/curve.tsv",
    canvases=f"{paths.RUN}/canvases.tsv",
)


SEGMENTATION_PARAMS = dict(**TRAINING_PARAMS, classifier=pick(get_classifier), canvas=pick(get_dataset, "canvas"))


use rule run_step as slide_image with:
    input:
        slide_file=path_of_slide_file,
        grid=paths.GRID,
    output:
        image=paths.SLIDE_IMAGE,
    log:
        "logs/{dataset}/slide_image/{cell_px}/{slide}.log",
    benchmark:
        "benchmarks/{dataset}/slide_image/{cell_px}/{slide}.tsv"
    wildcard_constraints:
        dataset=SLIDES,
        cell_px=r"\d+",
    params:
        **step("tables.slide_images.write_slide_image"),
        cell_px=get_number("cell_px"),
        tiling=pick_keys(get_tiling, "level", "grayscale", "upsample"),
    message:
        "Reducing slide {wildcards.slide} of {wildcards.dataset} to {wildcards.cell_px} px a grid cell"


use rule run_step as train_unet with:
    input:
        **LEARNING_TABLES,
        features=paths_of_features,
    output:
        **SEGMENTATION_FILES,
    log:
        "logs/{dataset}/train_unet/{task}/{split}/{seed}/{features}/{classifier}.log",
    benchmark:
        "benchmarks/{dataset}/train_unet/{task}/{split}/{seed}/{features}/{classifier}.tsv"
    wildcard_constraints:
        dataset=SLIDES,
        features=TRAINED,
        classifier=UNETS,
    threads: STUDY.training.threads
    resources:
        **REQUESTS.by(REQUESTS.segmentation),
        gpu=GPU,
    params:
        **step("segmentation.unet_training.train_unet"),
        **SEGMENTATION_PARAMS,
        feature_set=pick(get_feature_set, "definition"),
    message:
        "Training {wildcards.classifier} on maps of {wildcards.features}: {wildcards.dataset}, {wildcards.task}, {wildcards.split}, seed {wildcards.seed}"


use rule run_step as train_end_to_end with:
    input:
        **LEARNING_TABLES,
        pixels=paths_of_slides(paths.PIXELS, px=pick(get_extractor, "px")),
        extractor=path_of_extractor,
        segmentation=path_of_first_segmentation,
    output:
        **SEGMENTATION_FILES,
        trained_extractor=f"{paths.RUN}/extractor.keras",
        moved=f"{paths.RUN}/moved.tsv",
    log:
        "logs/{dataset}/train_end_to_end/{task}/{split}/{seed}/{features}/{classifier}.log",
    benchmark:
        "benchmarks/{dataset}/train_end_to_end/{task}/{split}/{seed}/{features}/{classifier}.tsv"
    wildcard_constraints:
        dataset=SLIDES,
        classifier=END_TO_END,
    threads: STUDY.training.threads
    resources:
        **REQUESTS.by(REQUESTS.end_to_end),
        gpu=GPU,
    params:
        **step("segmentation.end_to_end.train_end_to_end"),
        **SEGMENTATION_PARAMS,
        start=pick(get_extractor, "start"),
        start_name=pick(get_extractor, "start_name"),
        network_name=pick(get_extractor, "name"),
        layer=get_extracted_layer,
    message:
        "Training {wildcards.features} and {wildcards.classifier} end to end: {wildcards.dataset}, {wildcards.task}, {wildcards.split}, seed {wildcards.seed}"
