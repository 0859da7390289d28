"""Where a study's files lie: one pattern for each kind of file, with wildcards in braces.

Rules take their inputs and outputs from here, and the report what it shows. Paths are relative to the working
directory. What belongs to a dataset is shared by all studies of that working directory; what compares datasets or
methods belongs to one study.
"""

from __future__ import annotations

from collections.abc import Iterable

from histotransfer.definitions import Factors

# ---- a dataset: its sheet and its images

#: The sample sheet of the rows of a third-party table that can be used, and how many cannot, and why.
SHEET = "results/{dataset}/sheet.tsv"
LEFT_OUT = "results/{dataset}/left_out.json"
#: The checked sheet of patches or points.
CHECKED_SHEET = "results/{dataset}/table.json"
#: What is known of a slide: size, levels, resolution, or why it cannot be read.
DESCRIPTION = "results/{dataset}/slides/{slide}.json"
TISSUE_MASK = "results/{dataset}/tissue/{slide}.png"
TISSUE_OVERLAY = "results/{dataset}/tissue/{slide}.jpg"
GRID = "results/{dataset}/tiles/{slide}.h5"
#: Tiles of `px` pixels; patches at their own shape; slides at `cell_px` pixels a grid cell.
PIXELS = "results/{dataset}/pixels/{px}/{slide}.h5"
IMAGES = "results/{dataset}/images/{px}/{slide}.h5"
SLIDE_IMAGE = "results/{dataset}/slide_images/{cell_px}/{slide}.h5"
#: Manifests of features: of networks as they are, and of networks trained for a task and split.
FEATURES = "results/{dataset}/features/{network}/{shard}.json"
TRAINED_FEATURES = "results/{dataset}/features/{task}/{split}/{seed}/{network}/{shard}.json"

# ---- a dataset: who is in the study, with which labels, in which set

SLIDES_TABLE = "results/{dataset}/slides.tsv"
SLIDE_LABELS = "results/{dataset}/labels/{task}/{slide}.tsv"
LABELS = "results/{dataset}/labels/{task}.tsv"
SPLIT = "results/{dataset}/splits/{split}/{seed}.tsv"
SPLIT_COUNTS = "results/{dataset}/counts/{task}/{split}/{seed}.tsv"

# ---- a dataset: folders of what was fitted, and files in them

SELECTION = "results/{dataset}/selections/{task}/{split}/{seed}/{features}"
#: A head that is trained on features before its network is.
HEAD = "results/{dataset}/heads/{task}/{split}/{seed}/{network}"
#: One trained model of a method. A trained network is the model of its own output layer.
RUN = "results/{dataset}/models/{task}/{split}/{seed}/{features}/{classifier}"
TRAINING = "results/{dataset}/models/{task}/{split}/{seed}/{network}/softmax"
PREDICTIONS = f"{RUN}/predictions.h5"
RUN_SCORES = f"{RUN}/scores.tsv"
CONFUSION = f"{RUN}/confusion.tsv"
CONFUSION_FIGURE = f"{RUN}/confusion.svg"
GRAD_CAM = f"{TRAINING}/grad_cam.svg"
MAPS_INDEX = f"{RUN}/maps.json"
STAGING = f"{RUN}/staging"
KAPPA = f"{STAGING}/kappa.json"
#: Unfinished trainings.
CHECKPOINTS = "results/.resume"

# ---- a dataset: pictures

ATTRITION_FIGURE = "results/{dataset}/figures/attrition.svg"
SLIDE_PICTURE = "results/{dataset}/figures/slides/{slide}.jpg"
TILES_PICTURE = "results/{dataset}/figures/{task}/tiles-{class_number}.jpg"
AUGMENTATION_PICTURE = "results/{dataset}/figures/augmentation/{network}.jpg"
ANNOTATION_PICTURE = "results/{dataset}/figures/annotations/{task}/{slide}.jpg"
SPLIT_FIGURE = "results/{dataset}/figures/{task}/{split}/{seed}/split.svg"

# ---- a study: all of it

STUDY = "results/studies/{study}"
REPORT = f"{STUDY}/report.html"
RUN_PAGE = f"{STUDY}/run.html"
SCORES = f"{STUDY}/scores.tsv"
COST = f"{STUDY}/cost.tsv"
COST_FIGURE = f"{STUDY}/figures/cost.svg"
#: Without the ending: table and figure.
METHOD_COSTS = f"{STUDY}/costs/{{split}}/method_costs"

# ---- a study: what compares methods on one split. Chapters with one table and one figure are without the ending.

SCORES_FIGURE = f"{STUDY}/figures/{{dataset}}/{{task}}/{{split}}/scores.svg"
COMPARISON = f"{STUDY}/comparisons/{{comparison}}/{{split}}"
RANKS = f"{COMPARISON}/ranks"
DIFFERENCES = f"{COMPARISON}/differences"
STRATEGIES = f"{STUDY}/strategies/{{split}}/strategies"
FRIEDMAN = f"{STUDY}/strategies/{{split}}/friedman.json"
LAYERS = f"{STUDY}/layers/{{split}}/{{features}}/{{classifier}}"
IMPORTANCE = f"{STUDY}/importance/{{split}}/{{features}}/{{classifier}}"
SELECTION_CURVE = f"{STUDY}/selection/{{split}}/{{features}}"
#: Folder of three tables.
OVERLAP = f"{STUDY}/selection/{{split}}/overlap"
#: Folder of the learning curves, and the figures in it.
CURVES = f"{STUDY}/training/{{split}}"
ITERATIONS_FIGURE = f"{CURVES}/{{dataset}}/{{task}}/iterations/{{architecture}}.svg"
EPOCHS_FIGURE = f"{CURVES}/{{dataset}}/{{task}}/epochs/{{network}}.svg"
SEGMENTATION_EPOCHS_FIGURE = f"{CURVES}/{{dataset}}/{{task}}/epochs/{{features}}/{{classifier}}.svg"
#: Folders of tables on maps: of the study, and of a split.
STUDY_MAPS = f"{STUDY}/maps"
MAPS = f"{STUDY_MAPS}/{{split}}"
MAPS_FIGURE = f"{MAPS}/{{dataset}}/{{task}}/{{seed}}.svg"
#: Folder of two tables.
STAGES = f"{STUDY}/staging/{{split}}"


def filled(pattern: str, runs: Iterable[Factors]) -> list[str]:
    """Return the path of a pattern for the factors of each of several models; it need not have all of them.

    Examples
    --------
    >>> from histotransfer.definitions import Draw
    >>> filled(LABELS, [Factors("demo", "tumour", "by-patient", Draw(1))])
    ['results/demo/labels/tumour.tsv']
    """
    return [pattern.format(**run.wildcards) for run in runs]
