# The study, checked before any job runs, and every function that the rules use.
import gc
import sys
from pathlib import Path

# A DAG of thousands of jobs is millions of objects that live to the end: collecting rarely plans it in less time.
gc.set_threshold(200_000, 50, 1000)

sys.path.insert(0, str(Path(workflow.basedir) / "workflow_scripts"))

from histotransfer import __version__ as VERSION, configuration, contents, provenance
from snakemake.exceptions import WorkflowError

try:
    STUDY = configuration.load(config, Path(workflow.basedir) / "rules/schemas/config.schema.yaml")
except configuration.ConfigurationError as error:
    raise WorkflowError(str(error)) from None

CONTENTS = contents.Contents(STUDY)
# The digest of the library code behind "module.function": a param of every rule, so that changed code reruns it.
code = provenance.CodeDigests(Path(workflow.basedir) / "workflow_scripts/histotransfer")

ID = r"[a-z0-9][a-z0-9._-]*"
SELECTION = "results/{dataset}/selections/{task}/{split}/{seed}/{features}"
RUN = "results/{dataset}/models/{task}/{split}/{seed}/{features}/{classifier}"
# A trained network is the run of its own output; a head that is trained first lies by itself.
TRAINING = "results/{dataset}/models/{task}/{split}/{seed}/{network}/softmax"
HEAD = "results/{dataset}/heads/{task}/{split}/{seed}/{network}"
SLIDE_IMAGE = "results/{dataset}/slide_images/{cell_px}/{slide}.h5"
STAGING = "results/{dataset}/models/{task}/{split}/{seed}/{features}/{classifier}/staging"
MAPS = "results/studies/{study}/maps"
COMPARISON = "results/studies/{study}/comparisons/{comparison}/{split}"
GPU = 1 if STUDY.gpus else 0

# The metric of the report's first paragraph and plots.
HEADLINE = "balanced_accuracy"
# The study whose pages are copied to results/.
DEFAULT_STUDY = "demo"
TEMPLATES = sorted(map(str, (Path(workflow.basedir) / "workflow_scripts/histotransfer/templates").iterdir()))


def names(*kinds):
    """Pattern of the datasets of these kinds, so that slides and tables share paths and no rule is ambiguous."""
    found = [name.replace(".", r"\.") for name, dataset in STUDY.datasets.items() if dataset.kind in kinds]
    return "|".join(found) or "(?!)"


SLIDES, TABLES = names("slides"), names("patches", "points")
# Datasets whose sheet is made of somebody's table.
FILTERED = "|".join(d.name.replace(".", r"\.") for d in STUDY.datasets.values() if d.table) or "(?!)"


def sets(condition):
    """Pattern of the feature sets of which `condition` holds."""
    return "|".join(name.replace(".", r"\.") for name, one in STUDY.feature_sets.items() if condition(one)) or "(?!)"


def trained_networks(condition):
    """Pattern of the trained networks of which `condition` holds."""
    return "|".join(name.replace(".", r"\.") for name, one in STUDY.trained.items() if condition(one)) or "(?!)"


def classifiers_of(*kinds):
    """Pattern of the classifiers of these kinds."""
    return (
        "|".join(name.replace(".", r"\.") for name, one in STUDY.classifiers.items() if one["kind"] in kinds) or "(?!)"
    )


def tasks(condition):
    """Pattern of the tasks of which `condition` holds."""
    found = {name: task for one in STUDY.datasets.values() for name, task in one.tasks.items()}
    return "|".join(name.replace(".", r"\.") for name, task in found.items() if condition(task)) or "(?!)"


# A choice among layers trains nothing itself.
CHOSEN, TRAINED = sets(lambda one: one.layers), sets(lambda one: not one.layers)
SELECTED = sets(lambda one: one.selection)
# Classifiers that learn from rows of features, and those that see maps of slides; softmax is the own output of a
# trained network.
UNETS, END_TO_END = classifiers_of("unet"), classifiers_of("end_to_end")
ON_ROWS = classifiers_of("libsvm", "liblinear", "extratrees", "perceptron", "leaf_frequencies")
# Tasks whose labels come from regions drawn on slides, and the others.
BY_REGIONS, BY_SHEET = tasks(lambda one: one["regions"]), tasks(lambda one: not one["regions"])
# Trained networks: those whose head begins on features, those that are nothing but that, and those that take tiles.
ON_FEATURES = trained_networks(lambda one: one.on_features)
HEAD_ONLY, ON_TILES = trained_networks(lambda one: one.head_only), trained_networks(lambda one: not one.head_only)


wildcard_constraints:
    dataset=ID,
    slide=ID,
    shard=r"shard-\d+",
    px=r"\d+",
    network=ID,
    task=ID,
    split=ID,
    seed=r"\d+",
    features=ID,
    classifier=ID,
    study=ID,
    comparison=ID,


def dataset(wildcards):
    return STUDY.datasets[wildcards.dataset]


def slide_row(wildcards):
    return dataset(wildcards).rows[wildcards.slide]


def slide_file(wildcards):
    """The slide's file; nothing where it does not exist, which becomes a status and not a missing input."""
    row = slide_row(wildcards)
    return row.path if row.exists or (dataset(wildcards).drawn and row.drawing) else []


def of_slide(attribute):
    return lambda wildcards: getattr(slide_row(wildcards), attribute)


def of_dataset(attribute):
    return lambda wildcards: getattr(dataset(wildcards), attribute)


def of_network(key):
    return lambda wildcards: STUDY.networks[wildcards.network][key]


def tiling(*keys):
    """The named keys of the dataset's tiling: a rule sees, and reruns by, those that it uses."""
    return lambda wildcards: {key: dataset(wildcards).tiling[key] for key in keys}


def tiling_key(key):
    return lambda wildcards: dataset(wildcards).tiling[key]


def sheet_check(key):
    return lambda wildcards: dataset(wildcards).sheet_check[key]


def of_table(key):
    return lambda wildcards: dataset(wildcards).table[key]


def rows_left_out(wildcards):
    """What was left out of somebody's table, if the sheet is made of one."""
    return f"results/{wildcards.dataset}/left_out.json" if dataset(wildcards).table else []


def n_parts(wildcards):
    return len(dataset(wildcards).parts)


def each_slide(pattern, **fixed):
    """Paths of `pattern` for every slide (or part of a table) of the wildcards' dataset."""
    return lambda wildcards: expand(pattern, slide=dataset(wildcards).parts, **{**wildcards, **fixed})


def in_shard(pattern):
    return lambda wildcards: expand(pattern, slide=dataset(wildcards).shards[wildcards.shard], **wildcards)


def study_wide(pattern, kinds=("slides", "patches", "points")):
    """Paths of a per-slide `pattern` over the study's datasets of these kinds."""
    chosen = (dataset for dataset in STUDY.datasets.values() if dataset.kind in kinds)
    return [path for dataset in chosen for path in expand(pattern, dataset=dataset.name, slide=dataset.parts)]


def each_run(pattern, methods=None, split=None):
    """Paths of `pattern` for every dataset, task, split, seed and method of the study: one trained model each."""
    return [pattern.format(**run) for run in runs(methods, split)]


def runs(methods=None, split=None):
    """The factors of every model of the study, or of those of some methods (by name) and of one split."""
    chosen = [method for method in STUDY.methods if methods is None or method.name in methods]
    return [
        dict(dataset=d.name, task=task, split=of, seed=seed, features=method.features, classifier=method.classifier)
        for d in STUDY.datasets.values()
        for task in d.tasks
        for of in (STUDY.splits if split is None else [split])
        for seed in STUDY.seeds
        for method in chosen
    ]


def method_name(wildcards):
    return f"{wildcards.features}+{wildcards.classifier}"


def layer_methods(wildcards):
    layers = STUDY.feature_sets[wildcards.features].layers
    return [f"{name}+{wildcards.classifier}" for name in layers.values()]


def layer_runs(wildcards):
    """The factors of each layer's models, with the layer."""
    layers = {name: layer for layer, name in STUDY.feature_sets[wildcards.features].layers.items()}
    return [{**run, "layer": layers[run["features"]]} for run in runs(layer_methods(wildcards), wildcards.split)]


def kinds(methods):
    """The kind of classifier of each method."""
    of = {method.name: STUDY.classifiers[method.classifier]["kind"] for method in STUDY.methods}
    return {name: of[name] for name in methods}


def method_parts(method):
    """What a method is made of, to count what it costs."""
    one = STUDY.feature_sets[method.features]
    choice = list((one.layers or {}).values())
    sources = [source for name in choice for source in STUDY.feature_sets[name].sources] or list(one.sources)
    used = {source["network"] for source in sources} & STUDY.trained.keys()
    return {
        "features": method.features,
        "classifier": method.classifier,
        "sources": [] if method.classifier == "softmax" else sources,
        "selection": one.selection is not None,
        "choice": choice,
        "fitted": fitted_by(method, choice),
        "cell_px": one.cell_px,
        "trained": [trained_parts(STUDY.trained[name]) for name in sorted(used)],
    }


def fitted_by(method, choice):
    """The rules that fit a method's own models, each with the classifier that it fits."""
    kind = STUDY.classifiers[method.classifier]["kind"]
    if kind == "softmax":
        return []
    if kind == "end_to_end":
        start = STUDY.classifiers[method.classifier]["start"]
        return [("train_unet", start), ("train_end_to_end", method.classifier)]
    own = "train_unet" if kind == "unet" else "choose_layer" if choice else "train_classifier"
    return [(own, method.classifier)]


def trained_parts(one):
    head = ["train_head"] if one.on_features else []
    last = "attach_head" if one.head_only else "train_network"
    return {"network": one.name, "start": one.start_name if head else "", "rules": [*head, last]}


def method_costs(ending):
    """The table or the figure of what each method costs, where there are methods to compare: in the first split."""
    split = next(iter(STUDY.splits))
    path = f"results/studies/{STUDY.name}/costs/{split}/method_costs.{ending}"
    return path if len(STUDY.methods) > 1 else []


def variants():
    """Methods that are variants of a strategy, each once."""
    return list(dict.fromkeys(name for methods in STUDY.strategies.values() for name in methods))


def of_selections(file, split, features=None):
    """A file of every selection of a split, or of those of one feature set, with what each is of."""
    names = [name for name, one in STUDY.feature_sets.items() if one.selection and features in (None, name)]
    of = [
        dict(dataset=d.name, task=task, split=split, seed=seed, features=name)
        for name in names
        for d in STUDY.datasets.values()
        for task in d.tasks
        for seed in STUDY.seeds
    ]
    return [(f"{SELECTION}/{file}".format(**one), one) for one in of]


def of_drawn(attribute):
    """A drawn slide's sheet row, found over the study's datasets."""

    def value(wildcards):
        rows = [d.rows[wildcards.slide] for d in STUDY.datasets.values() if d.drawn and wildcards.slide in d.rows]
        if not rows:
            raise WorkflowError(f"no drawn dataset of the study has a slide {wildcards.slide}")
        return getattr(rows[0], attribute)

    return value


def owner_of_slide(wildcards):
    return {unit: getattr(slide_row(wildcards), unit) for unit in ("slide", "patient")}


def metastases(wildcards):
    """What the sheet says of each slide of a lymph node; "" where it says nothing."""
    return {slide: row.metastasis for slide, row in dataset(wildcards).rows.items()}


def annotation_file(wildcards):
    return slide_row(wildcards).annotation or []


def regions(wildcards):
    return dataset(wildcards).tasks[wildcards.task]["regions"]


def classes_of_labels(wildcards):
    return dataset(wildcards).tasks[wildcards.task]["labels"]


def where_slides_fail(wildcards):
    """The files in which a slide that opens may still turn out to be unreadable: all that reads its pixels."""
    stored = expand(
        "results/{dataset}/pixels/{px}/{slide}.h5",
        dataset=wildcards.dataset,
        px=STUDY.px_stored(wildcards.dataset),
        slide=dataset(wildcards).parts,
    )
    cells = {one.cell_px for one in STUDY.feature_sets.values()} - {None}
    stored += expand(SLIDE_IMAGE, dataset=wildcards.dataset, cell_px=sorted(cells), slide=dataset(wildcards).parts)
    if STUDY.pixels == "cache":
        return stored
    pattern, factor = "results/{dataset}/features/{network}/{shard}.json", {"network": STUDY.networks}
    return stored + expand(pattern, dataset=wildcards.dataset, shard=dataset(wildcards).shards, **factor)


def cohort_rows(wildcards):
    of_row = ("slide", "patient", "label", "split")
    return {slide: {name: getattr(row, name) for name in of_row} for slide, row in dataset(wildcards).rows.items()}


def classes(wildcards):
    return dataset(wildcards).tasks[wildcards.task]["classes"]


def network_definition(wildcards):
    return STUDY.networks[wildcards.network]


def rows_in_shard(wildcards):
    return [dataset(wildcards).rows[slide] for slide in dataset(wildcards).shards[wildcards.shard]]


def split_definition(wildcards):
    used_by_splitting = ("unit", "test", "validation", "folds", "groups", "share_groups", "stratify")
    return {key: STUDY.splits[wildcards.split][key] for key in used_by_splitting}


def tiles_to_split(wildcards):
    """Which tiles there are, needed only where tiles themselves are the groups."""
    if STUDY.splits[wildcards.split]["unit"] != "tile":
        return []
    if dataset(wildcards).kind == "slides":
        return each_slide("results/{dataset}/tiles/{slide}.h5")(wildcards)
    return each_slide("results/{dataset}/pixels/{px}/{slide}.h5", px=min(STUDY.px_of(wildcards.dataset)))(wildcards)


def labels_of_tasks(wildcards):
    """The class of each label of the sheet, by task; where regions give the labels, of those that the sheet has."""
    there = {row.label for row in dataset(wildcards).rows.values()}
    return {
        name: {label: of for label, of in task["labels"].items() if not task["regions"] or label in there}
        for name, task in dataset(wildcards).tasks.items()
    }


def weights_file(wildcards):
    trained = STUDY.trained.get(wildcards.network)
    weights = (trained.start if trained else STUDY.networks[wildcards.network])["weights"]
    return [] if weights in ("imagenet", "random") else weights


def feature_files(wildcards):
    """What a feature set is read from: manifests of its networks, in order, or cached pixels for random windows."""
    one = STUDY.feature_sets[wildcards.features]
    if one.cell_px is not None:
        return each_slide(SLIDE_IMAGE, cell_px=one.cell_px)(wildcards)
    if one.windows is not None:
        return each_slide("results/{dataset}/pixels/{px}/{slide}.h5", px=one.windows["px"])(wildcards)
    return [path for network in one.networks for path in manifests(network, wildcards)]


def manifests(network, wildcards):
    """The manifests of a network's features; a trained one has its own for each task, split and seed."""
    pattern = "results/{dataset}/features/{network}/{shard}.json"
    if network in STUDY.trained:
        pattern = "results/{dataset}/features/{task}/{split}/{seed}/{network}/{shard}.json"
    return expand(pattern, **{**wildcards, "network": network}, shard=dataset(wildcards).shards)


def of_trained(attribute):
    return lambda wildcards: getattr(STUDY.trained[wildcards.network], attribute)


def start_features(wildcards):
    return manifests(STUDY.trained[wildcards.network].start_name, wildcards)


def training_pixels(wildcards):
    """The tiles that a network is trained on; patches at their own shape where they are cropped at random."""
    one = STUDY.trained[wildcards.network]
    stored = "images" if one.own_size and dataset(wildcards).kind == "patches" else "pixels"
    return each_slide(f"results/{{dataset}}/{stored}/{one.px}/{{slide}}.h5")(wildcards)


def pretrained_head(wildcards):
    return f"{HEAD}/head.keras".format(**wildcards) if STUDY.trained[wildcards.network].on_features else []


def segmenter(*keys):
    """The named keys of a segmentation network's definition."""
    return lambda wildcards: {key: STUDY.classifiers[wildcards.classifier][key] for key in keys}


def segmenter_recipe(wildcards):
    return STUDY.classifiers[wildcards.classifier]["recipe"]


def trained_extractor(wildcards):
    """The trained network behind a feature set, and the layer that is taken of it."""
    [source] = STUDY.feature_sets[wildcards.features].sources
    one = STUDY.trained[source["network"]]
    return one, source["layer"] or one.layer


def of_extractor(attribute):
    return lambda wildcards: getattr(trained_extractor(wildcards)[0], attribute)


def extractor_pixels(wildcards):
    px = trained_extractor(wildcards)[0].px
    return each_slide("results/{dataset}/pixels/{px}/{slide}.h5", px=px)(wildcards)


def extractor_model(wildcards):
    return f"{TRAINING}/model.keras".format(**wildcards, network=trained_extractor(wildcards)[0].name)


def first_segmentation(wildcards):
    """The segmentation network that end-to-end learning begins with."""
    start = STUDY.classifiers[wildcards.classifier]["start"]
    return f"{RUN}/model.keras".format(**{**wildcards, "classifier": start})


def of_trainings(file):
    """A file of every network that is trained on the wildcards' split."""
    return lambda wildcards: [f"{RUN}/{file}".format(**one) for one in CONTENTS.trainings(wildcards.split)]


def factors_of_map(wildcards):
    return {
        "dataset": wildcards.dataset,
        "task": wildcards.task,
        "split": wildcards.split,
        "seed": int(wildcards.seed),
    }


def each_training(pattern):
    """Paths of `pattern` for every dataset, task, split, seed and trained network of the study."""
    return [
        pattern.format(dataset=d.name, task=task, split=split, seed=seed, network=name)
        for d in STUDY.datasets.values()
        for task in d.tasks
        for split in STUDY.splits
        for seed in STUDY.seeds
        for name in STUDY.trained
    ]


def models():
    """The file of every trained model: scikit-learn's by skops, Keras' own."""
    by_keras = ("softmax", "unet", "end_to_end")
    kind_of = {name: one["kind"] for name, one in STUDY.classifiers.items()}
    return [
        f"{RUN}/model.{'keras' if kind_of[run['classifier']] in by_keras else 'skops'}".format(**run) for run in runs()
    ]


def selected_features(wildcards):
    chosen = STUDY.feature_sets[wildcards.features].selection is not None
    return f"{SELECTION}/subsets.h5".format(**wildcards) if chosen else []


def of_each_layer(pattern):
    """`pattern` for the feature set of each layer that a choice chooses from, by depth."""

    def paths(wildcards):
        layers = STUDY.feature_sets[wildcards.features].layers.values()
        return [pattern.format(**{**wildcards, "features": name}) for name in layers]

    return paths


def noun(wildcards):
    return "slide" if dataset(wildcards).kind == "slides" else "image"


def of_each_method(pattern):
    """`pattern` with every method that has pictures of its own in it, and the other wildcards left open."""
    return [pattern.replace("{features}", m.features).replace("{classifier}", m.classifier) for m in CONTENTS.methods]


def paths(entries):
    return [path for path, _ in entries]


def abouts(entries):
    return [about for _, about in entries]
