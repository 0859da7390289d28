"""A small config, the study it becomes, and the problems of a changed one."""

from __future__ import annotations

import copy

import pytest
import yaml
from repository import ROOT as REPOSITORY

from histotransfer.study import configuration

SCHEMA = REPOSITORY / "rules" / "schemas" / "config.schema.yaml"

CONFIG = """
study:
  name: small
  datasets: [mine]
  methods: [net+svm]
  splits: [by-patient]
  seeds: [1, 2]
seed: 7
n_shards: 2
datasets:
  mine: {kind: slides, sheet: in/slides.tsv, tiling: plain, tasks: [tumour]}
  cells: {kind: points, sheet: in/points.tsv, root: pictures, crop: {px: 32}, tasks: [cell]}
tilings:
  plain: {size_um: 112, tissue_min: 0.5}
tasks:
  tumour: {classes: [normal, tumour]}
  cell: {classes: {epithelial: [e], other: [f, i]}, leave_out: [misc]}
networks:
  net: {architecture: VGG16, weights: random}
classifiers:
  svm: {kind: libsvm, C: [0.01, 1]}
splits:
  by-patient: {unit: patient, test: 0.25, folds: 2}
"""

SLIDES = [
    "image\tpath\tpatient\tlabel",
    *(f"s{k}\ts{k}.svs\tp{k}\t{'normal' if k < 4 else 'tumour'}" for k in range(8)),
]

#: What turns the small study into one of maps.
MAPS = """
study: {methods: [vectors+end-to-end, picture+maps, net+maps, tuned+softmax]}
datasets: {mine: {canvas: {size: 32, per: piece}}}
networks: {tuned: {start: net, recipe: tiles}}
feature_sets: {vectors: {network: tuned, layer: head_1}, picture: {cell_px: 16}}
classifiers:
  maps: {kind: unet, filters: 8, depth: 2, recipe: on-maps}
  end-to-end: {kind: end_to_end, start: maps, recipe: together}
recipes:
  tiles: {crop_from: 256, head: {dense: [16]}, phases: [{train: all, epochs: 1, rate: 0.1, optimiser: {kind: sgd}}]}
  on-maps: {augmentation: {flip: both}, phases: [{train: all, epochs: 2, rate: 0.1, optimiser: {kind: adam}}]}
  together:
    crop_from: 256
    phases: [{train: all, epochs: 1, rate: 0.01, rates: {extractor: 0.01}, optimiser: {kind: adam}}]
tasks:
  tumour:
    regions:
      {names: {tumour: [T]}, outside: normal, rules: [{class: tumour, above: 0.2}, {class: normal, above: 0.8}]}
"""


def write_sheets(folder):
    """Write the sample sheets that the small config names, and return the folder."""
    (folder / "in").mkdir()
    (folder / "in" / "slides.tsv").write_text("\n".join(SLIDES))
    (folder / "in" / "s0.svs").touch()
    (folder / "in" / "points.tsv").write_text("image\tpath\tx\ty\tlabel\tpatient\n")
    return folder


def merged(config, overlay):
    """Return a copy of a config with an overlay, merged as Snakemake merges config files."""
    result = copy.deepcopy(config)
    for key, value in overlay.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else copy.deepcopy(value)
    return result


def of_file(path):
    """Return the config of a study's file, merged into the project's config."""
    return merged(yaml.safe_load((REPOSITORY / "config.yaml").read_text()), yaml.safe_load(path.read_text()))


def changed(text):
    """Return the small config, merged with a piece of YAML."""
    return merged(yaml.safe_load(CONFIG), yaml.safe_load(text) or {})


def load(folder, text=""):
    """Return the study of the small config with a change."""
    return configuration.load(changed(text), SCHEMA, folder=folder)


def refused(folder, text):
    """Return the lines of the error, without the first, which counts them."""
    with pytest.raises(configuration.ConfigurationError) as raised:
        load(folder, text)
    first, *lines = str(raised.value).split("\n")
    told = [line for line in lines if line.startswith("  ")]
    word = "problem" if len(told) == 1 else "problems"
    assert first == f"{len(told)} {word} in the config and the sample sheets; nothing was run"
    return lines


# ---- data for any config


def put_data(config, folder):
    """Write the sheets of a config's datasets, and empty files of weights, where the config says.

    Sheets of slides have one patient a row and the labels of all tasks of the dataset; the others have only a header.
    """
    for name in config["study"]["datasets"]:
        dataset = config["datasets"][name]
        write = _write_slides if dataset["kind"] == "slides" else _write_header
        write(folder / dataset["sheet"], dataset, config)
    for network in config["networks"].values():
        if network.get("weights", "random") not in ("imagenet", "random"):
            _write(folder / network["weights"], "")


def _write_slides(sheet, dataset, config, *, per_label=30):
    labels = {}
    for task in dataset["tasks"]:
        classes = config["tasks"][task]["classes"]
        members = classes.values() if isinstance(classes, dict) else [classes]
        labels.update((label, None) for several in members for label in several)
    rows = [
        f"s{number}-{k}\ts{number}-{k}.svs\tp{number}-{k}\t{label}\t{'train' if k % 2 else 'test'}"
        for number, label in enumerate(labels)
        for k in range(per_label)
    ]
    _write(sheet, "\n".join(["image\tpath\tpatient\tlabel\tsplit", *rows]))


def _write_header(sheet, dataset, config):
    columns = [column for column in (dataset.get("columns") or {}).values() if column]
    if not columns:
        columns = ["image", "path", "x", "y"] if dataset["kind"] == "points" else ["tile", "path", "image"]
        columns += ["slide", "patient", "label", "split"]
    separator = {"tab": "\t", "comma": ",", "semicolon": ";"}[dataset.get("separator", "tab")]
    _write(sheet, separator.join(columns))


def _write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
