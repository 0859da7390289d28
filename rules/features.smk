# Features. Needs pixels, or tiles where pixels are streamed.
# Gives results/{dataset}/features/{network}/{shard}.json, a manifest, and beside it one {slide}.h5 a slide. The job
# keeps the slides whose digest still fits, makes the others, and builds the network once.


if STUDY.pixels == "cache":

    use rule run_step as extract_features with:
        input:
            tiles=paths_in_shard(paths.PIXELS, px=pick(get_network, "px")),
            weights_file=path_of_weights,
        output:
            manifest=paths.FEATURES,
        log:
            "logs/{dataset}/extract_features/{network}/{shard}.log",
        benchmark:
            "benchmarks/{dataset}/extract_features/{network}/{shard}.tsv"
        threads: 8
        resources:
            **REQUESTS.by(REQUESTS.extraction),
            gpu=GPU,
        params:
            **plain(STUDY.extraction),
            **step("features.extraction.extract"),
            network_name="{network}",
            network=pick(get_network),
            shard="{shard}",
            master_seed=STUDY.master_seed,
        message:
            "Extracting features of {wildcards.dataset} with {wildcards.network}, {wildcards.shard}"

else:

    use rule run_step as stream_features with:
        input:
            slide_files=paths_of_slide_files,
            grids=paths_in_shard(paths.GRID),
            weights_file=path_of_weights,
        output:
            manifest=paths.FEATURES,
        log:
            "logs/{dataset}/stream_features/{network}/{shard}.log",
        benchmark:
            "benchmarks/{dataset}/stream_features/{network}/{shard}.tsv"
        threads: 8
        resources:
            **REQUESTS.by(REQUESTS.extraction),
            gpu=GPU,
        params:
            **plain(STUDY.extraction),
            **step("features.streaming.extract_from_slides"),
            paths=lambda wildcards: [row.path for row in get_slides_in_shard(wildcards)],
            tiling=pick_keys(get_tiling, "level", "grayscale", "upsample"),
            network_name="{network}",
            network=pick(get_network),
            shard="{shard}",
            master_seed=STUDY.master_seed,
        message:
            "Extracting features of {wildcards.dataset} with {wildcards.network}, {wildcards.shard}, from the slides"


use rule run_step as extract_trained_features with:
    input:
        tiles=paths_in_shard(paths.PIXELS, px=pick(get_trained, "px")),
        model=f"{paths.TRAINING}/model.keras",
        predictions=f"{paths.TRAINING}/predictions.h5",
    output:
        manifest=paths.TRAINED_FEATURES,
    log:
        "logs/{dataset}/extract_trained_features/{task}/{split}/{seed}/{network}/{shard}.log",
    benchmark:
        "benchmarks/{dataset}/extract_trained_features/{task}/{split}/{seed}/{network}/{shard}.tsv"
    threads: 8
    resources:
        **REQUESTS.by(REQUESTS.extraction),
        gpu=GPU,
    params:
        **plain(STUDY.extraction),
        **step("features.extraction.extract_trained"),
        network_name="{network}",
        start=pick(get_trained, "start"),
        layer=pick(get_trained, "layer"),
        layers=pick(get_trained, "layers"),
        shard="{shard}",
    message:
        "Extracting features of {wildcards.dataset} with {wildcards.network} as trained for {wildcards.task}, split {wildcards.split}, seed {wildcards.seed}, {wildcards.shard}"


rule features:
    input:
        [
            f"results/{dataset.name}/features/{network}/{shard}.json"
            for dataset in STUDY.datasets.values()
            for network in STUDY.networks
            for shard in dataset.shards
        ],
