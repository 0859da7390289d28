"""A small config, the study it becomes, and the problems of a changed one."""

from __future__ import annotations

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


def changed(text):
    """Return the small config, merged with a piece of YAML as Snakemake merges config files."""

    def merge(old, new):
        for key, value in new.items():
            if isinstance(value, dict) and isinstance(old.get(key), dict):
                merge(old[key], value)
            else:
                old[key] = value
        return old

    return merge(yaml.safe_load(CONFIG), yaml.safe_load(text) or {})


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
