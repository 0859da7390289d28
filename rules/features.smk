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
            gpu=GPU,
        params:
            **STUDY.extraction,
            network_name="{network}",
            network=network_definition,
            shard="{shard}",
            master_seed=STUDY.master_seed,
            code=code("features.extract"),
        message:
            "Extracting features of {wildcards.dataset} with {wildcards.network}, {wildcards.shard}"
        script:
            "../workflow_scripts/extract_features.py"

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
            gpu=GPU,
        params:
            **STUDY.extraction,
            paths=lambda wildcards: [row.path for row in rows_in_shard(wildcards)],
            tiling=tiling("level", "grayscale", "upsample"),
            network_name="{network}",
            network=network_definition,
            shard="{shard}",
            master_seed=STUDY.master_seed,
            code=code("streaming.extract_from_slides"),
        message:
            "Extracting features of {wildcards.dataset} with {wildcards.network}, {wildcards.shard}, from the slides"
        script:
            "../workflow_scripts/stream_features.py"


#TMP rule extract_trained_features:
#TMP     input:
#TMP         tiles=lambda wildcards: in_shard(f"results/{{dataset}}/pixels/{of_trained('px')(wildcards)}/{{slide}}.h5")(
#TMP             wildcards
#TMP         ),
#TMP         model=f"{TRAINING}/model.keras",
#TMP         predictions=f"{TRAINING}/predictions.h5",
#TMP     output:
#TMP         manifest="results/{dataset}/features/{task}/{split}/{seed}/{network}/{shard}.json",
#TMP     log:
#TMP         "logs/{dataset}/extract_trained_features/{task}/{split}/{seed}/{network}/{shard}.log",
#TMP     benchmark:
#TMP         "benchmarks/{dataset}/extract_trained_features/{task}/{split}/{seed}/{network}/{shard}.tsv"
#TMP     conda:
#TMP         "../envs/histotransfer.yaml"
#TMP     threads: 8
#TMP     resources:
#TMP         gpu=GPU,
#TMP     params:
#TMP         **STUDY.extraction,
#TMP         network_name="{network}",
#TMP         layer=of_trained("layer"),
#TMP         layers=of_trained("layers"),
#TMP         shard="{shard}",
#TMP         code=code("features.extract_trained"),
#TMP     message:
#TMP         "Extracting features of {wildcards.dataset} with {wildcards.network} as trained for {wildcards.task}, split {wildcards.split}, seed {wildcards.seed}, {wildcards.shard}"
#TMP     script:
#TMP         "../workflow_scripts/extract_trained_features.py"


rule features:
    input:
        [
            f"results/{dataset.name}/features/{network}/{shard}.json"
            for dataset in STUDY.datasets.values()
            for network in STUDY.networks
            for shard in dataset.shards
        ],
