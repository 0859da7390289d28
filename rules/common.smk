# The study, checked before any job runs, and every function that the rules use.
import gc
import sys
from pathlib import Path

# A DAG of thousands of jobs is millions of objects that live to the end: collecting rarely plans it in less time.
gc.set_threshold(200_000, 50, 1000)

sys.path.insert(0, str(Path(workflow.basedir) / "workflow_scripts"))

from histotransfer import __version__ as VERSION, configuration, pictures, provenance
from snakemake.exceptions import WorkflowError

try:
    STUDY = configuration.load(config, Path(workflow.basedir) / "rules/schemas/config.schema.yaml")
except configuration.ConfigurationError as error:
    raise WorkflowError(str(error)) from None

# The digest of the library code behind "module.function": a param of every rule, so that changed code reruns it.
code = provenance.CodeDigests(Path(workflow.basedir) / "workflow_scripts/histotransfer")

ID = r"[a-z0-9][a-z0-9._-]*"
RUN = "results/{dataset}/models/{task}/{split}/{seed}/{features}/{classifier}"
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


def each_run(pattern):
    """Paths of `pattern` for every dataset, task, split, seed and method of the study: one trained model each."""
    return [
        pattern.format(
            dataset=dataset.name,
            task=task,
            split=split,
            seed=seed,
            features=method.features,
            classifier=method.classifier,
        )
        for dataset in STUDY.datasets.values()
        for task in dataset.tasks
        for split in STUDY.splits
        for seed in STUDY.seeds
        for method in STUDY.methods
    ]


def of_drawn(attribute):
    """A drawn slide's sheet row, found over the study's datasets."""

    def value(wildcards):
        rows = [d.rows[wildcards.slide] for d in STUDY.datasets.values() if d.drawn and wildcards.slide in d.rows]
        if not rows:
            raise WorkflowError(f"no drawn dataset of the study has a slide {wildcards.slide}")
        return getattr(rows[0], attribute)

    return value


def classes_of_labels(wildcards):
    return dataset(wildcards).tasks[wildcards.task]["labels"]


def where_slides_fail(wildcards):
    """The files in which a slide that opens may still turn out to be unreadable: all that reads its pixels."""
    if STUDY.pixels == "stream":
        pattern, factor = "results/{dataset}/features/{network}/{shard}.json", {"network": STUDY.networks}
        return expand(pattern, dataset=wildcards.dataset, shard=dataset(wildcards).shards, **factor)
    return expand(
        "results/{dataset}/pixels/{px}/{slide}.h5",
        dataset=wildcards.dataset,
        px=STUDY.px_of(wildcards.dataset),
        slide=dataset(wildcards).parts,
    )


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
    return {name: task["labels"] for name, task in dataset(wildcards).tasks.items()}


def weights_file(wildcards):
    weights = STUDY.networks[wildcards.network]["weights"]
    return [] if weights in ("imagenet", "random") else weights


def manifests(wildcards):
    network = STUDY.feature_sets[wildcards.features]["network"]
    pattern = "results/{dataset}/features/{network}/{shard}.json"
    return expand(pattern, dataset=wildcards.dataset, network=network, shard=dataset(wildcards).shards)


def shown_slides(name):
    """The slides of a dataset whose pictures the report shows: all up to 40, else a sample drawn by the master seed."""
    return pictures.sample_slides(STUDY.datasets[name].parts, at_most=40, master_seed=STUDY.master_seed)


def noun(wildcards):
    return "slide" if dataset(wildcards).kind == "slides" else "image"


def each_task():
    return [(d.name, task) for d in STUDY.datasets.values() for task in d.tasks]


def report_figures():
    """Every figure of the report: its file, and what the page needs to know to place it."""
    found = []
    study = f"results/studies/{STUDY.name}/figures"
    for d in STUDY.datasets.values():
        home = {"dataset": d.name}
        found.append(
            (f"results/{d.name}/figures/attrition.svg", {"section": "attrition", "rule": "draw_attrition", **home})
        )
        for slide in shown_slides(d.name) if d.kind == "slides" else []:
            path = f"results/{d.name}/figures/slides/{slide}.jpg"
            found.append((path, {"section": "slides", "rule": "draw_slide_tiles", "slide": slide, **home}))
        for task in d.tasks:
            for number, name in (
                enumerate(d.tasks[task]["classes"]) if STUDY.pixels == "cache" or d.kind != "slides" else []
            ):
                path = f"results/{d.name}/figures/{task}/tiles-{number}.jpg"
                found.append((path, {"section": "tiles", "rule": "draw_tiles", "task": task, "class": name, **home}))
            for split in STUDY.splits:
                key = {"task": task, "split": split, **home}
                for seed in STUDY.seeds:
                    path = f"results/{d.name}/figures/{task}/{split}/{seed}/split.svg"
                    found.append((path, {"section": "splits", "rule": "draw_splits", "seed": str(seed), **key}))
                path = f"{study}/{d.name}/{task}/{split}/scores.svg"
                found.append((path, {"section": "scores", "rule": "draw_scores", **key}))
                for seed in STUDY.seeds:
                    for method in STUDY.methods:
                        path = f"results/{d.name}/models/{task}/{split}/{seed}/{method.features}/{method.classifier}/confusion.svg"
                        found.append(
                            (path, {"section": "confusion", "rule": "draw_confusion", "seed": str(seed), **key})
                        )
    return found


def each_split(pattern):
    """Paths of `pattern` for every dataset, task, split and seed, and what each is of."""
    factors = [(d, t, split, str(seed)) for d, t in each_task() for split in STUDY.splits for seed in STUDY.seeds]
    of = [dict(zip(("dataset", "task", "split", "seed"), one)) for one in factors]
    return [pattern.format(**one) for one in of], of


def of_each_method(pattern):
    """`pattern` with every method of the study in it and the other wildcards left open."""
    return [pattern.replace("{features}", m.features).replace("{classifier}", m.classifier) for m in STUDY.methods]


def shown_descriptions():
    found = [(d.name, slide) for d in STUDY.datasets.values() if d.kind == "slides" for slide in shown_slides(d.name)]
    return [f"results/{name}/slides/{slide}.json" for name, slide in found], [name for name, _ in found]
