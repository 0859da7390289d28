# Where the inputs of a job lie: functions of its wildcards, and functions that make them of a pattern.


def paths_of_slides(pattern, slides=lambda wildcards: get_dataset(wildcards).parts, **fixed):
    """An input's function: `pattern` for every slide (or part of a table) of the dataset.

    Values that are given besides the wildcards may be functions of them.
    """

    def found(wildcards):
        values = {name: value(wildcards) if callable(value) else value for name, value in fixed.items()}
        return expand(pattern, **{**wildcards, **values}, slide=slides(wildcards))

    return found


def paths_of_all_slides(pattern):
    """Paths of `pattern` for every slide of the study's datasets of slides."""
    chosen = [dataset for dataset in STUDY.datasets.values() if dataset.kind == "slides"]
    return [path for dataset in chosen for path in expand(pattern, dataset=dataset.name, slide=dataset.parts)]


def paths_in_shard(pattern, **fixed):
    """An input's function: `pattern` for every slide (or part of a table) of the shard."""
    return paths_of_slides(pattern, lambda wildcards: get_dataset(wildcards).shards[wildcards.shard], **fixed)


# ---- slides, and what is known of them


def has_file(slide, dataset):
    """Whether the file of a slide exists, or a rule draws it."""
    return slide.exists or (dataset.drawn and slide.drawing)


def path_of_slide_file(wildcards):
    """The slide's file; nothing where it does not exist, which becomes a status and not a missing input."""
    return get_slide(wildcards).path if has_file(get_slide(wildcards), get_dataset(wildcards)) else []


def paths_of_slide_files(wildcards):
    rows, dataset = get_slides_in_shard(wildcards), get_dataset(wildcards)
    return [row.path for row in rows if has_file(row, dataset)]


def path_of_annotation(wildcards):
    return get_slide(wildcards).annotation or []


def path_of_left_out(wildcards):
    """What was left out of a third-party table, if the sheet is made of one."""
    return paths.LEFT_OUT.format(**wildcards) if get_dataset(wildcards).table else []


def paths_where_slides_fail(wildcards):
    """The files in which a slide that opens may still turn out to be unreadable: all that reads its pixels."""
    stored = paths_of_slides(paths.PIXELS, px=STUDY.px_stored(wildcards.dataset))(wildcards)
    cells = {feature_sets.cell_px_of(features) for features in STUDY.feature_sets.values()} - {None}
    stored += paths_of_slides(paths.SLIDE_IMAGE, cell_px=sorted(cells))(wildcards)
    if STUDY.pixels == "cache":
        return stored
    shards = get_dataset(wildcards).shards
    return stored + expand(paths.FEATURES, dataset=wildcards.dataset, shard=shards, network=STUDY.networks)


def paths_of_tiles_to_split(wildcards):
    """Which tiles there are, needed only where tiles themselves are the groups."""
    if get_split(wildcards).unit != "tile":
        return []
    if get_dataset(wildcards).kind == "slides":
        return paths_of_slides(paths.GRID)(wildcards)
    return paths_of_slides(paths.PIXELS, px=min(STUDY.px_of(wildcards.dataset)))(wildcards)


# ---- networks, features and what is trained on them


def path_of_weights(wildcards):
    trained = STUDY.trained.get(wildcards.network)
    weights = (trained.start if trained else get_network(wildcards)).weights
    return [] if weights in ("imagenet", "random") else weights


def paths_of_network(network, wildcards):
    """The manifests of a network's features; a trained one has its own for each task, split and seed."""
    pattern = paths.TRAINED_FEATURES if network in STUDY.trained else paths.FEATURES
    return expand(pattern, **{**wildcards, "network": network}, shard=get_dataset(wildcards).shards)


def paths_of_features(wildcards):
    """What a feature set is read from: manifests of its networks, in order, or cached pixels for random windows."""
    features = get_feature_set(wildcards)
    if isinstance(features, feature_sets.SlideFeatures):
        return paths_of_slides(paths.SLIDE_IMAGE, cell_px=features.definition.image.cell_px)(wildcards)
    if isinstance(features, feature_sets.WindowFeatures):
        return paths_of_slides(paths.PIXELS, px=features.definition.windows.px)(wildcards)
    return [path for network in features.networks for path in paths_of_network(network, wildcards)]


def path_of_selection(wildcards):
    return (
        f"{paths.SELECTION}/subsets.h5".format(**wildcards)
        if feature_sets.selection_of(get_feature_set(wildcards))
        else []
    )


def paths_of_training_pixels(wildcards):
    """The tiles that a network is trained on; patches at their own shape where they are cropped at random."""
    network = get_trained(wildcards)
    pattern = paths.IMAGES if network.own_size and get_dataset(wildcards).kind == "patches" else paths.PIXELS
    return paths_of_slides(pattern, px=network.px)(wildcards)


def paths_of_start_features(wildcards):
    return paths_of_network(get_trained(wildcards).start_name, wildcards)


def path_of_head(wildcards):
    return f"{paths.HEAD}/head.keras".format(**wildcards) if get_trained(wildcards).on_features else []


def path_of_extractor(wildcards):
    return f"{paths.TRAINING}/model.keras".format(**wildcards, network=get_extractor(wildcards).name)


def path_of_first_segmentation(wildcards):
    """The segmentation network that end-to-end learning begins with."""
    start = get_classifier(wildcards).start
    return f"{paths.RUN}/model.keras".format(**{**wildcards, "classifier": start})


# ---- runs behind a table or figure


def paths_of_layers(pattern):
    """An input's function: `pattern` for the feature set of each layer that a choice chooses from, by depth."""

    def found(wildcards):
        layers = get_feature_set(wildcards).layers.values()
        return [pattern.format(**{**wildcards, "features": features}) for features in layers]

    return found


def paths_of_method(pattern):
    """An input's function: `pattern` for each run of the method on the split."""
    return lambda wildcards: paths.filled(pattern, get_runs_of_method(wildcards))


def paths_of_each_method(pattern):
    """`pattern` with every method that has pictures of its own in it, and the other wildcards left open."""
    return [pattern.replace("{features}", m.features).replace("{classifier}", m.classifier) for m in CONTENTS.methods]


def paths_of_trainings(file):
    """An input's function: a file of every network that is trained on the split."""
    pattern = f"{paths.RUN}/{file}"
    return lambda wildcards: paths.filled(pattern, [training.factors for training in get_trainings(wildcards)])


def paths_of_map_predictions(wildcards):
    return paths.filled(paths.PREDICTIONS, get_map_runs(wildcards))


# ---- what several rules take

LEARNING_TABLES = dict(labels=[paths.LABELS], slides_table=paths.SLIDES_TABLE, split_file=paths.SPLIT)
