# histotransfer: from histology slides to an honest comparison of transfer-learning strategies.
# Data flow, one file of rules a stage: slides -> tissue -> tiles -> pixels -> features; labels, cohort and splits
# join at the classifiers; then scores, ranks and the report. Targets by name: slides, tissue, tiles, pixels, features,
# classifiers, report.
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

min_version("9.0")

# The folder of this file: of a module it is not the folder of the workflow that uses it.
ROOT = Path(str(workflow.current_basedir))
if not (ROOT / "workflow_scripts").is_dir():
    raise WorkflowError(
        "histotransfer is imported from its folder: clone it, and give the module the path of its Snakefile; "
        f"found {workflow.current_basedir}"
    )


configfile: str(ROOT / "config.yaml")


include: "rules/common.smk"
include: "rules/params.smk"
include: "rules/inputs.smk"
include: "rules/run_step.smk"
include: "rules/slides.smk"
include: "rules/tissue.smk"
include: "rules/tiles.smk"
include: "rules/sheets.smk"
include: "rules/pixels.smk"
include: "rules/labels.smk"
include: "rules/cohort.smk"
include: "rules/splits.smk"
include: "rules/features.smk"
include: "rules/training.smk"
include: "rules/selection.smk"
include: "rules/classifiers.smk"
include: "rules/layers.smk"
include: "rules/segmentation.smk"
include: "rules/evaluation.smk"
include: "rules/importance.smk"
include: "rules/ranking.smk"
include: "rules/strategies.smk"
include: "rules/training_report.smk"
include: "rules/maps.smk"
include: "rules/staging.smk"
include: "rules/augmentation.smk"
include: "rules/pictures.smk"
include: "rules/figures.smk"
include: "rules/report.smk"
include: "rules/costs.smk"


rule all:
    default_target: True
    input:
        rules.report.input,


onstart:
    # So as to start no more than a hundred jobs a second, Snakemake 9 looks at all ready jobs again a second after each
    # look, in one more chain of looks for each job that has ended: with a thousand slides that is all of a processor.
    # Without the limit it looks when a job ends. A limit that the user gives stays.
    limiter = getattr(workflow.scheduler, "job_rate_limiter", None)
    if limiter and (limiter.max_jobs, limiter.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None


# The last line: what rules are called, for the table of what each asks of a cluster.
RULE_NAMES.update({rule.name: name for name, rule in get_rules().items()})
