# Features. Needs pixels, or tiles where pixels are streamed.
# Gives results/{dataset}/features/{network}/{shard}.json, a manifest, and beside it one {slide}.h5 a slide. The job
# keeps the slides whose digest still fits, makes the others, and builds the network once.

if STUDY.pixels == "cache":

    rule extract_features:
        input:
            tiles=lambda wildcards: in_shard(f"results/{{dataset}}/pixels/{of_network('px')(wildcards)}/{{slide}}.h5")(
                wildcards
            ),
            weights_file=weights_file,
        output:
            manifest="results/{dataset}/features/{network}/{shard}.json",
        log:
            "logs/{dataset}/extract_features/{network}/{shard}.log",
        benchmark:
            "benchmarks/{dataset}/extract_features/{network}/{shard}.tsv"
        conda:
            "../envs/histotransfer.yaml"
        threads: 8
        resources:
            **needed(of_extraction),
            gpu=GPU,
        params:
            **STUDY.extraction,
            network_name="{network}",
            network=network_definition,
            shard="{shard}",
            master_seed=STUDY.master_seed,
            **step("features.extraction.extract"),
        message:
            "Extracting features of {wildcards.dataset} with {wildcards.network}, {wildcards.shard}"
        script:
            "../workflow_scripts/run_step.py"

else:

    rule stream_features:
        input:
            slide_files=lambda wildcards: [
                row.path
                for row in rows_in_shard(wildcards)
                if row.exists or (dataset(wildcards).drawn and row.drawing)
            ],
            grids=in_shard("results/{dataset}/tiles/{slide}.h5"),
            weights_file=weights_file,
        output:
            manifest="results/{dataset}/features/{network}/{shard}.json",
        log:
            "logs/{dataset}/stream_features/{network}/{shard}.log",
        benchmark:
            "benchmarks/{dataset}/stream_features/{network}/{shard}.tsv"
        conda:
            "../envs/histotransfer.yaml"
        threads: 8
        resources:
            **needed(of_extraction),
            gpu=GPU,
        params:
            **STUDY.extraction,
            paths=lambda wildcards: [row.path for row in rows_in_shard(wildcards)],
            tiling=tiling("level", "grayscale", "upsample"),
            network_name="{network}",
            network=network_definition,
            shard="{shard}",
            master_seed=STUDY.master_seed,
            **step("features.streaming.extract_from_slides"),
        message:
            "Extracting features of {wildcards.dataset} with {wildcards.network}, {wildcards.shard}, from the slides"
        script:
            "../workflow_scripts/run_step.py"


rule extract_trained_features:
    input:
        tiles=lambda wildcards: in_shard(
            f"results/{{dataset}}/pixels/{STUDY.trained[wildcards.network].px}/{{slide}}.h5"
        )(wildcards),
        model=f"{TRAINING}/model.keras",
        predictions=f"{TRAINING}/predictions.h5",
    output:
        manifest="results/{dataset}/features/{task}/{split}/{seed}/{network}/{shard}.json",
    log:
        "logs/{dataset}/extract_trained_features/{task}/{split}/{seed}/{network}/{shard}.log",
    benchmark:
        "benchmarks/{dataset}/extract_trained_features/{task}/{split}/{seed}/{network}/{shard}.tsv"
    conda:
        "../envs/histotransfer.yaml"
    threads: 8
    resources:
        **needed(of_extraction),
        gpu=GPU,
    params:
        **STUDY.extraction,
        network_name="{network}",
        start=of_trained("start"),
        layer=of_trained("layer"),
        layers=of_trained("layers"),
        shard="{shard}",
        **step("features.extraction.extract_trained"),
    message:
        "Extracting features of {wildcards.dataset} with {wildcards.network} as trained for {wildcards.task}, split {wildcards.split}, seed {wildcards.seed}, {wildcards.shard}"
    script:
        "../workflow_scripts/run_step.py"


rule features:
    input:
        [
            f"results/{dataset.name}/features/{network}/{shard}.json"
            for dataset in STUDY.datasets.values()
            for network in STUDY.networks
            for shard in dataset.shards
        ],
