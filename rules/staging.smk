# Stages. Needs predictions of a task of two classes on slides whose sheet has the column `metastasis`.
# Gives beside each model staging/: the numbers of each slide's map, its class by a random forest, the patients' pN stages
# and how they agree with the truth; and results/studies/{study}/staging/{split}/, those of all methods.


use rule run_step as stage_patients with:
    input:
        predictions=paths.PREDICTIONS,
        grids=paths_of_slides(paths.GRID),
        slides_table=paths.SLIDES_TABLE,
        split_file=paths.SPLIT,
    output:
        features=f"{paths.STAGING}/features.tsv",
        slides=f"{paths.STAGING}/slides.tsv",
        patients=f"{paths.STAGING}/patients.tsv",
        kappa=paths.KAPPA,
        slide_confusion=f"{paths.STAGING}/slide_confusion.tsv",
        patient_confusion=f"{paths.STAGING}/patient_confusion.tsv",
    log:
        "logs/{dataset}/stage_patients/{task}/{split}/{seed}/{features}/{classifier}.log",
    benchmark:
        "benchmarks/{dataset}/stage_patients/{task}/{split}/{seed}/{features}/{classifier}.tsv"
    wildcard_constraints:
        dataset=SLIDES,
    params:
        **step("maps.staging.stage_patients"),
        factors=get_factors,
        staging=plain(STUDY.staging),
        metastases=get_metastases,
        master_seed=STUDY.master_seed,
        bootstrap=STUDY.evaluation.bootstrap,
    message:
        "Staging the patients of {wildcards.dataset} by {wildcards.features}+{wildcards.classifier}: {wildcards.task}, {wildcards.split}, seed {wildcards.seed}"


use rule run_step as collect_staging with:
    input:
        kappas=lambda wildcards: paths.filled(paths.KAPPA, CONTENTS.stagings(wildcards.split)),
    output:
        table=f"{paths.STAGES}/stages.csv",
        left_out=f"{paths.STAGES}/left_out.csv",
    log:
        "logs/studies/{study}/collect_staging/{split}.log",
    benchmark:
        "benchmarks/studies/{study}/collect_staging/{split}.tsv"
    params:
        **step("maps.staging_tables.collect"),
    message:
        "Collecting the stages of patients, split {wildcards.split}"
