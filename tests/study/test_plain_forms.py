"""What a study's objects are as plain data, which rules pass on and files store: the config's own entries.

Each plain form is compared with the config that was read, its defaults filled in, for every study of the project and
for small configs that have the rest.
"""

from __future__ import annotations

import config_factory
import pytest
import yaml
from repository import ROOT as REPOSITORY

from histotransfer import plain_data
from histotransfer.networks.table import ARCHITECTURES
from histotransfer.study import configuration

SMALL = yaml.safe_load(config_factory.CONFIG)

#: Every kind of feature set, recipe, phase and split that the studies of the project may lack.
EVERYTHING = """
study:
  datasets: [mine, cells]
  methods: [both+svm, few+et, inner+svm, random+et-fl, tuned+softmax, warm+softmax, head+softmax, deep+p, net+flat]
  splits: [by-patient, as-given]
networks:
  wide: {architecture: MobileNetV2, weights: random, px: 96, layers: all}
  tuned: {start: net, recipe: ends}
  warm: {start: net, recipe: pretrained, layers: all}
  head: {start: wide, recipe: top}
splits:
  as-given: {unit: given, groups: patient, folds: 2, train_tiles: 40}
selections:
  rfe: {kind: rfe, step: 0.1}
feature_sets:
  both: {networks: [wide, net]}
  few: {network: net, layers: all, use: merged, selection: rfe}
  inner: {network: net, layers: [block1, block5], use: chosen}
  random: {pixels: 64}
  deep: {network: head, layer: head_1}
classifiers:
  et: {kind: extratrees, max_features: [sqrt, 0.5, 10]}
  et-fl: {kind: leaf_frequencies, C: [1]}
  p: {kind: perceptron, learning_rate: [0.1], iterations: [10, 20]}
  flat: {kind: liblinear, C: [1.0e-4, 1]}
recipes:
  ends:
    augmentation: {zoom: [0.9, 1.1], maximal_crop: true}
    curve: {per_epoch: 2}
    initialisation: {kind: gaussian, deviation: 0.1}
    phases:
      - train: block5
        epochs: 2
        rate: 0.1
        rates: {block5: 0.5}
        layer_decay: 0.9
        optimiser: {kind: sgd}
        schedule: {kind: inv, gamma: 0.1, power: 2}
  pretrained:
    head: {dense: [16]}
    phases:
      - {input: features, train: head, epochs: 3, rate: 0.1, optimiser: {kind: rmsprop}}
      - {train: 1, epochs: 2, rate: 0.1, optimiser: {kind: adam}, schedule: {kind: cosine, warm_up: 1}}
  top: {head: {dense: [16, 8]}, phases: [{input: features, train: head, epochs: 3, rate: 0.1, optimiser: {kind: sgd}}]}
"""

#: A third-party table, and a split whose groups are shared for a reason.
TABLE = """
study: {datasets: [pairs], splits: [by-tile]}
datasets:
  pairs:
    kind: patches
    sheet: in/pairs.csv
    separator: comma
    columns: {path: image, label: pathology, slide: null}
    several_labels: first
    repeated: first
    tasks: [tumour]
splits: {by-tile: {unit: tile, test: 0.2, folds: 2, share_groups: as the paper has it}}
"""

CONFIGS = {
    "config": config_factory.of_file(REPOSITORY / "config.yaml"),
    **{path.stem: config_factory.of_file(path) for path in sorted(REPOSITORY.glob("studies/*.yaml"))},
    "small": SMALL,
    "maps": config_factory.merged(SMALL, yaml.safe_load(config_factory.MAPS)),
    "everything": config_factory.merged(SMALL, yaml.safe_load(EVERYTHING)),
    "table": config_factory.merged(SMALL, yaml.safe_load(TABLE)),
}


@pytest.fixture(scope="module", params=CONFIGS)
def study(request, tmp_path_factory):
    """A study of each config, on sheets and weights that are there."""
    folder = tmp_path_factory.mktemp(request.param)
    config_factory.put_data(CONFIGS[request.param], folder)
    return configuration.load(CONFIGS[request.param], config_factory.SCHEMA, folder=folder)


def recipe(study, name):
    """Return a recipe as it is written, with its name; what is `input` in the config is `on` here."""
    written = study.config["recipes"][name]
    phases = [
        {"on": phase["input"], **{key: value for key, value in phase.items() if key != "input"}}
        for phase in written["phases"]
    ]
    return {**written, "name": name, "phases": phases}


def network(study, name):
    """Return a network as it is written, with the defaults of its architecture, but for its inner layers."""
    written = study.config["networks"][name]
    row = ARCHITECTURES[written["architecture"]]
    return {
        "architecture": row.name,
        "alpha": float(written["alpha"] or 1) if row.has_alpha else None,
        "weights": written["weights"],
        "px": written["px"] or row.px,
        "rescale": written["rescale"],
        "layer": written["layer"] or row.last,
    }


def source(study, name, layer=None):
    """Return a source as it is written; a network's own layer is None."""
    written = study.config["networks"][name]
    start = study.config["networks"].get(written.get("start") or name)
    own = written["layer"] or start["layer"] or ARCHITECTURES[start["architecture"]].last
    return {"network": name, "layer": None if layer == own else layer}


def test_splits(study):
    assert list(study.splits) == study.config["study"]["splits"]
    for name, split in study.splits.items():
        written = study.config["splits"][name]
        assert plain_data.plain(split) == {**written, "share_groups": written["share_groups"] or ""}


def test_classifiers(study):
    written = study.config["classifiers"]
    for name, classifier in study.classifiers.items():
        expected = {"kind": "softmax"} if name == "softmax" else dict(written[name])
        if expected["kind"] in ("unet", "end_to_end"):
            # the shape of the network is that of the one it begins with
            expected = {**written[expected.get("start") or name], **expected}
            expected["recipe"] = recipe(study, written[name]["recipe"])
        assert plain_data.plain(classifier) == expected


def test_selections(study):
    for name, selection in study.selections.items():
        assert plain_data.plain(selection) == study.config["selections"][name]


def test_networks(study):
    for name, spec in study.networks.items():
        layers = plain_data.plain(spec).pop("layers")
        assert plain_data.plain(spec) == {**network(study, name), "layers": layers}
        known = ARCHITECTURES[network(study, name)["architecture"]].layers
        assert isinstance(layers, list)
        assert layers == [layer for layer in known if layer in layers], "by depth"
        written = study.config["networks"][name]["layers"]
        assert set(written) - {network(study, name)["layer"]} <= set(layers) or written == "all"


def test_trained_networks_and_their_recipes(study):
    for name, trained in study.trained.items():
        written = study.config["networks"][name]
        start = {**network(study, written["start"]), "layers": []}
        assert (trained.name, trained.start_name) == (name, written["start"])
        assert plain_data.plain(trained.start) == start
        assert plain_data.plain(trained.recipe) == recipe(study, written["recipe"])
        assert plain_data.plain(trained.start_features) == {"sources": [source(study, written["start"])]}
        assert trained.layer == (written["layer"] or start["layer"])
        assert trained.px == (trained.recipe.crop_from or start["px"])


def test_tasks(study):
    for dataset in study.datasets.values():
        assert list(dataset.tasks) == study.config["datasets"][dataset.name]["tasks"]
        for name, task in dataset.tasks.items():
            written = study.config["tasks"][name]
            classes = written["classes"]
            members = classes if isinstance(classes, dict) else {one: [one] for one in classes}
            assert plain_data.plain(task) == {
                "classes": list(members),
                "labels": {label: one for one, labels in members.items() for label in labels},
                "leave_out": written["leave_out"],
                "regions": written["regions"],
            }


def test_tilings_canvases_and_crops(study):
    for dataset in study.datasets.values():
        written = study.config["datasets"][dataset.name]
        tiling = dict(study.config["tilings"][written["tiling"]]) if dataset.kind == "slides" else None
        if tiling is not None:
            tiling["tissue_min"] = tiling["tissue_min"] or 0.0
        assert plain_data.plain(dataset.tiling) == tiling
        assert plain_data.plain(dataset.canvas) == written.get("canvas")
        assert plain_data.plain(dataset.crop) == written.get("crop")


def test_tables_that_sheets_are_made_of(study):
    keys = ("separator", "several_labels", "unlabelled", "repeated", "missing_files")
    for dataset in study.datasets.values():
        if dataset.table is not None:
            written = study.config["datasets"][dataset.name]
            assert plain_data.plain(dataset.table) == {
                "source": written["sheet"],
                "columns": {name: column for name, column in written["columns"].items() if column is not None},
                **{key: written[key] for key in keys},
            }
    tables = {name for name, dataset in study.datasets.items() if dataset.table is not None}
    assert tables == {"pairs", "quilt-1m"} & set(study.datasets)


def test_settings(study):
    for section in ("evaluation", "extraction", "training", "staging"):
        assert plain_data.plain(getattr(study, section)) == study.config[section]


def test_feature_sets(study):
    defaults = {"windows": 20, "window_px": 16, "smallest": 0.25, "largest": 1.0}
    for name in dict.fromkeys(method.partition("+")[0] for method in study.config["study"]["methods"]):
        written = study.config["feature_sets"].get(name, {"network": name})
        if written.get("use") == "chosen":
            layers = study.feature_sets[name].layers
            assert written["layers"] == "all" or set(written["layers"]) == set(layers)
            for layer, inner in layers.items():
                expected = {"sources": [source(study, written["network"], layer)]}
                assert plain_data.plain(study.feature_sets[inner].definition) == expected
            continue
        definition = plain_data.plain(study.feature_sets[name].definition)
        if written.get("pixels"):
            windows = {key: value if written[key] is None else written[key] for key, value in defaults.items()}
            assert definition == {"windows": {"px": written["pixels"], **windows}}
        elif written.get("cell_px"):
            assert definition == {"image": {"cell_px": written["cell_px"]}}
        elif written.get("networks"):
            assert definition == {"sources": [source(study, one) for one in written["networks"]]}
        elif isinstance(written.get("layers"), list):
            sources = [source(study, written["network"], layer) for layer in written["layers"]]
            # they stand by depth, whatever the list
            assert sorted(map(str, definition["sources"])) == sorted(map(str, sources))
        elif not written.get("layers"):
            assert definition == {"sources": [source(study, written["network"], written.get("layer"))]}
