# Stages. Needs predictions of a task of two classes on slides whose sheet has the column `metastasis`.
# Gives beside each model staging/: the numbers of each slide's map, its class by a random forest, the patients' pN stages
# and how they agree with the truth; and results/studies/{study}/staging/{split}/, those of all methods.


rule stage_patients:
    input:
        predictions=f"{RUN}/predictions.h5",
        grids=each_slide("results/{dataset}/tiles/{slide}.h5"),
        slides_table="results/{dataset}/slides.tsv",
        split_file="results/{dataset}/splits/{split}/{seed}.tsv",
    output:
        features=f"{STAGING}/features.tsv",
        slides=f"{STAGING}/slides.tsv",
        patients=f"{STAGING}/patients.tsv",
        kappa=f"{STAGING}/kappa.json",
        slide_confusion=f"{STAGING}/slide_confusion.tsv",
        patient_confusion=f"{STAGING}/patient_confusion.tsv",
    log:
        "logs/{dataset}/stage_patients/{task}/{split}/{seed}/{features}/{classifier}.log",
    benchmark:
        "benchmarks/{dataset}/stage_patients/{task}/{split}/{seed}/{features}/{classifier}.tsv"
    wildcard_constraints:
        dataset=SLIDES,
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("stage_patients"),
    params:
        staging=STUDY.staging,
        metastases=metastases,
        factors=factors,
        master_seed=STUDY.master_seed,
        bootstrap=STUDY.evaluation["bootstrap"],
        **step("maps.staging.stage_patients"),
    message:
        "Staging the patients of {wildcards.dataset} by {wildcards.features}+{wildcards.classifier}: {wildcards.task}, {wildcards.split}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/run_step.py"


rule collect_staging:
    input:
        kappas=lambda wildcards: CONTENTS.stagings(wildcards.split),
    output:
        table="results/studies/{study}/staging/{split}/stages.csv",
        left_out="results/studies/{study}/staging/{split}/left_out.csv",
    log:
        "logs/studies/{study}/collect_staging/{split}.log",
    benchmark:
        "benchmarks/studies/{study}/collect_staging/{split}.tsv"
    conda:
        "../envs/histotransfer.yaml"
    resources:
        **by_files("collect_staging"),
    params:
        **step("maps.staging_tables.collect"),
    message:
        "Collecting the stages of patients, split {wildcards.split}"
    script:
        "../workflow_scripts/run_step.py"
