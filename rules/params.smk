# What params take for the wildcards of a job: values of the study, and functions that find them.


def get_dataset(wildcards):
    return STUDY.datasets[wildcards.dataset]


def get_tiling(wildcards):
    return get_dataset(wildcards).tiling


def get_task(wildcards):
    return get_dataset(wildcards).tasks[wildcards.task]


def get_split(wildcards):
    return STUDY.splits[wildcards.split]


def get_network(wildcards):
    return STUDY.networks[wildcards.network]


def get_trained(wildcards):
    return STUDY.trained[wildcards.network]


def get_feature_set(wildcards):
    return STUDY.feature_sets[wildcards.features]


def get_selection(wildcards):
    return STUDY.selections[feature_sets.selection_of(get_feature_set(wildcards))]


def get_classifier(wildcards):
    return STUDY.classifiers[wildcards.classifier]


def get_slide(wildcards):
    return get_dataset(wildcards).rows[wildcards.slide]


def get_slides_in_shard(wildcards):
    return [get_dataset(wildcards).rows[slide] for slide in get_dataset(wildcards).shards[wildcards.shard]]


def get_drawn_slide(wildcards):
    """The sheet row of a slide that a rule draws, whose path does not name its dataset."""
    rows = [d.rows[wildcards.slide] for d in STUDY.datasets.values() if d.drawn and wildcards.slide in d.rows]
    if not rows:
        raise WorkflowError(f"no drawn dataset of the study has a slide {wildcards.slide}")
    return rows[0]


def get_extractor(wildcards):
    """The trained network behind a feature set."""
    [source] = feature_sets.sources_of(get_feature_set(wildcards))
    return STUDY.trained[source.network]


def get_extracted_layer(wildcards):
    [source] = feature_sets.sources_of(get_feature_set(wildcards))
    return source.layer or get_extractor(wildcards).layer


def get_comparison(wildcards):
    return STUDY.comparisons[wildcards.comparison]


# ---- these and parts of them, as plain data: of a param that is an object Snakemake sees no change


def pick(find, *names):
    """A param's function: what `find` gives for the wildcards, or the attribute of these names, one of the other."""

    def value(wildcards):
        return plain(functools.reduce(getattr, names, find(wildcards)))

    return value


def pick_keys(find, *names):
    """A param's function: these attributes alone. A rule sees, and reruns by, those that it uses."""
    return lambda wildcards: {name: plain(getattr(find(wildcards), name)) for name in names}


def get_number(wildcard):
    return lambda wildcards: int(wildcards[wildcard])


get_classes = pick(get_task, "classes")


def get_noun(wildcards):
    return "slide" if get_dataset(wildcards).kind == "slides" else "image"


def get_finest_px(wildcards):
    return max(STUDY.px_of(wildcards.dataset))


def get_owner(wildcards):
    return {unit: getattr(get_slide(wildcards), unit) for unit in ("slide", "patient")}


def get_sheet_rows(wildcards):
    columns = ("slide", "patient", "label", "split")
    rows = get_dataset(wildcards).rows
    return {slide: {name: getattr(row, name) for name in columns} for slide, row in rows.items()}


def get_labels_of_tasks(wildcards):
    """The class of each label of the sheet, by task; where regions give the labels, of those that the sheet has."""
    in_sheet = {row.label for row in get_dataset(wildcards).rows.values()}
    return {
        name: {label: of for label, of in task.labels.items() if not task.regions or label in in_sheet}
        for name, task in get_dataset(wildcards).tasks.items()
    }


def get_metastases(wildcards):
    """What the sheet says of each slide of a lymph node; "" where it says nothing."""
    return {slide: row.metastasis for slide, row in get_dataset(wildcards).rows.items()}


def get_factors(wildcards):
    """What a model is of, as plain data; the features of a trained network's own output are the network."""
    names = ("dataset", "task", "split", "features", "classifier")
    factors = {name: wildcards[name] for name in names if name in wildcards.keys()}
    if "network" in wildcards.keys():
        factors |= {"features": wildcards.network, "classifier": "softmax"}
    return {**factors, "draw": {"seed": int(wildcards.seed)}}


# ---- runs behind a table or figure


def get_method(wildcards):
    return f"{wildcards.features}+{wildcards.classifier}"


def get_runs_of_method(wildcards):
    return RUNS.factors([get_method(wildcards)], wildcards.split)


def get_layer_runs(wildcards):
    return RUNS.of_layers(wildcards.features, wildcards.classifier, wildcards.split)


def get_trainings(wildcards):
    return CONTENTS.trainings(wildcards.split)


def get_map_runs(wildcards):
    """The runs whose maps are of the wildcards' split, or of their dataset, task, split and seed."""
    factors = ("dataset", "task", "split", "seed")
    asked = {name: wildcards[name] for name in factors if name in wildcards.keys()}
    return CONTENTS.map_runs(**{**asked, **({"seed": int(asked["seed"])} if "seed" in asked else {})})


def get_moved(wildcards):
    return CONTENTS.segmentations("end_to_end", split=wildcards.split)


def plainly(find):
    """A param's function: what `find` gives for the wildcards, as plain data."""
    return lambda wildcards: plain(find(wildcards))


# ---- what several rules take

# Which data a job is of, and with what is learnt from them.
DRAW_PARAMS = dict(
    dataset="{dataset}",
    task="{task}",
    split_name="{split}",
    split_seed=get_number("seed"),
    master_seed=STUDY.master_seed,
)
LEARNING_PARAMS = dict(**DRAW_PARAMS, classes=get_classes, split=pick(get_split))
