# The study, checked before any job runs, and every function that the rules use.
import functools
import gc
import os
import sys
from pathlib import Path

# A DAG of thousands of jobs is millions of objects that live to the end: collecting rarely plans it in less time.
gc.set_threshold(200_000, 50, 1000)

sys.path.insert(0, str(Path(workflow.basedir) / "workflow_scripts"))

from histotransfer import __version__ as VERSION, provenance, store
from histotransfer.networks.table import ARCHITECTURES
from histotransfer.plain_data import plain
from histotransfer.planning import needs
from histotransfer.report import contents
from histotransfer.study import configuration
from snakemake.exceptions import WorkflowError

try:
    STUDY = configuration.load(config, Path(workflow.basedir) / "rules/schemas/config.schema.yaml")
except configuration.ConfigurationError as error:
    raise WorkflowError(str(error)) from None

CONTENTS = contents.Contents(STUDY)
digests = provenance.CodeDigests(Path(workflow.basedir) / "workflow_scripts/histotransfer")

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
N_SLIDES = sum(len(dataset.rows) for dataset in STUDY.datasets.values())

# The metric of the report's first paragraph and plots.
HEADLINE = "balanced_accuracy"
# The study whose pages are copied to results/.
DEFAULT_STUDY = "demo"
TEMPLATES = sorted(map(str, (Path(workflow.basedir) / "workflow_scripts/histotransfer/report/templates").iterdir()))


def step(function):
    """The params of a rule that name what it runs, "folder.module.function", and the digest of the code behind it.

    Changed code thus reruns the rule. A job on another machine plans itself again, and itself alone: it need not read
    the code of every other rule.
    """
    digest = digests(function) if workflow.is_main_process else lambda wildcards: digests(function)
    return {"step": function, "code": digest}


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


def factors(wildcards):
    """What a model is of, as plain data of `Factors`."""
    draw = {"seed": int(wildcards.seed)}
    return {"dataset": wildcards.dataset, "task": wildcards.task, "split": wildcards.split, "draw": draw}


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


# ---- what jobs ask of a cluster; files that are not there yet count nothing, so that there is always a number


def needed(size, *names):
    """Memory and minutes to ask for, more at each attempt. `size` says what a job takes, given these names."""

    def mem_mb(wildcards, input, threads, attempt):
        return needs.memory_mb(size(wildcards, input, threads, *names), attempt=attempt, slides=N_SLIDES)

    def runtime(wildcards, input, threads, attempt):
        return needs.minutes(size(wildcards, input, threads, *names), attempt=attempt)

    return {"mem_mb": mem_mb, "runtime": runtime}


def by_files(rule):
    """What to ask for where a job takes as much as its files are large and many."""
    return needed(of_files, rule)


def of_files(wildcards, input, threads, rule):
    found = [file_bytes(path) for path in input]
    return needs.OF_FILES[rule].need(sum(found) / 1e6, len(found))


def file_bytes(path):
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def n_tiles(path):
    """The tiles that a manifest of features names; of a file that is not there yet, none."""
    try:
        return tiles_named(path, os.stat(path).st_mtime_ns)
    except FileNotFoundError:
        return 0


@functools.lru_cache(maxsize=None)
def tiles_named(path, changed_ns):
    return sum(entry["n_tiles"] for entry in store.read_json(path)["slides"])


def pixel_tiles(paths, px):
    return sum(map(file_bytes, paths)) / (3 * px**2)


def of_extraction(wildcards, input, threads):
    network = STUDY.trained[wildcards.network].start if wildcards.network in STUDY.trained else None
    px = STUDY.trained[wildcards.network].px if network else STUDY.networks[wildcards.network]["px"]
    network = network or STUDY.networks[wildcards.network]
    stream = STUDY.pixels == "stream"
    # where tiles are not cut yet: a cell of a grid takes 33 bytes, and about half of them are kept
    tiles = sum(map(file_bytes, input.grids)) / 63 if stream else pixel_tiles(input.tiles, px)
    batch = STUDY.extraction["batch"]
    return needs.extraction(network, px=px, tiles=tiles, batch=batch, threads=threads, gpu=GPU, cut=stream)


def of_training(wildcards, input, threads):
    one = STUDY.trained[wildcards.network]
    epochs = sum(phase["epochs"] for phase in one.recipe["phases"] if phase["on"] == "tiles")
    tiles = training_rows(wildcards, pixel_tiles(input.pixels, one.px))
    batch = one.recipe["batch"]
    return needs.training(one.start, px=one.px, tiles=tiles, epochs=epochs, batch=batch, threads=threads, gpu=GPU)


def of_segmentation(wildcards, input, threads):
    one = STUDY.feature_sets[wildcards.features]
    if one.cell_px is not None:
        mb = sum(map(file_bytes, input.features)) / 1e6
        return needed_by_unet(wildcards, threads, cells=1e6 * mb / (3 * one.cell_px**2), mb=mb, cell_px=one.cell_px)
    rows, _, row_bytes = of_rows(wildcards, input)
    return needed_by_unet(wildcards, threads, cells=2 * rows, mb=rows * row_bytes / 1e6)


def of_end_to_end(wildcards, input, threads):
    extractor, recipe = trained_extractor(wildcards)[0], segmenter_recipe(wildcards)
    tiles = pixel_tiles(input.pixels, extractor.px)
    # the tiles pass once more than in a training of their own
    passes = 2 * sum(phase["epochs"] for phase in recipe["phases"])
    of_tiles = dict(px=extractor.px, tiles=tiles, epochs=passes, batch=recipe["batch"], threads=threads, gpu=GPU)
    both = (
        needs.training(extractor.start, **of_tiles),
        needed_by_unet(wildcards, threads, cells=2 * tiles, mb=0, batch=1),
    )
    return needs.Need(sum(one.mb for one in both), sum(one.seconds for one in both))


def needed_by_unet(wildcards, threads, cells, mb, cell_px=1, batch=None):
    """What a U-Net takes on maps of so many cells in all, where the canvas does not say how many each has."""
    unet, size, maps = STUDY.classifiers[wildcards.classifier], dataset(wildcards).canvas["size"], n_parts(wildcards)
    pixels = (cells / maps if size == "fit" else size**2) * cell_px**2
    epochs = sum(phase["epochs"] for phase in unet["recipe"]["phases"])
    batch = batch or unet["recipe"]["batch"]
    of_maps = dict(pixels=pixels, maps=maps, epochs=epochs, batch=batch, filters=unet["filters"], mb=mb)
    return needs.segmentation(**of_maps, threads=threads, gpu=GPU)


def of_head(wildcards, input, threads):
    one = STUDY.trained[wildcards.network]
    epochs = sum(phase["epochs"] for phase in one.recipe["phases"] if phase["on"] == "features")
    rows = sum(map(n_tiles, input.features))
    return needs.head(tiles=rows, mb=4 * rows * network_columns(one.start_name) / 1e6, epochs=epochs)


def training_rows(wildcards, rows):
    """The tiles that a split lets learn on, of so many."""
    split = STUDY.splits[wildcards.split]
    inside = rows * (1 - (split["test"] or 0))
    of_each = split["train_tiles_per_class"]
    caps = [split["train_tiles"], of_each and of_each * len(classes(wildcards))]
    return min([inside, *(cap for cap in caps if cap)])


def network_columns(name, layer=None):
    """Features of a layer of a network, or nearly: inner layers have no more than the last, dense ones 4,096."""
    start = STUDY.trained[name].start if name in STUDY.trained else STUDY.networks[name]
    row = ARCHITECTURES[start["architecture"]]
    return 4096 if (layer or start["layer"]) in row.dense else round(row.n_features * (start["alpha"] or 1))


def of_rows(wildcards, input):
    """Tiles of the feature set, and columns and bytes of each."""
    one = STUDY.feature_sets[wildcards.features]
    if one.windows is not None:
        columns = 3 * one.windows["windows"] * one.windows["window_px"] ** 2
        return pixel_tiles(input.features, one.windows["px"]), columns, columns
    columns = sum(network_columns(source["network"], source["layer"]) for source in one.sources)
    return sum(map(n_tiles, input.features)) / max(1, len(one.networks)), columns, 4 * columns


def of_classifier(wildcards, input, threads):
    settings, folds = STUDY.classifiers[wildcards.classifier], STUDY.splits[wildcards.split]["folds"]
    rows, columns, row_bytes = of_rows(wildcards, input)
    return needs.classifier(
        settings["kind"],
        tiles=rows,
        rows=training_rows(wildcards, rows),
        row_bytes=row_bytes,
        held_out=rows * (STUDY.splits[wildcards.split]["test"] or 0.5),
        fits=needs.grid_points(settings) * (folds + 1),
        slower=needs.forest_slowness(settings, columns) if settings["kind"] == "extratrees" else 1,
    )


def of_selection(wildcards, input, threads):
    rows, columns, row_bytes = of_rows(wildcards, input)
    return needs.selection(
        STUDY.selections[STUDY.feature_sets[wildcards.features].selection],
        tiles=rows,
        rows=training_rows(wildcards, rows),
        row_bytes=row_bytes,
        columns=columns,
        folds=STUDY.splits[wildcards.split]["folds"],
        threads=threads,
    )
