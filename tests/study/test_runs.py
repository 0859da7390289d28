"""The runs of a study, and what its methods are made of."""

from __future__ import annotations

import pytest
from config_factory import MAPS, load

from histotransfer.evaluation import costs
from histotransfer.study import paths, runs

#: Two datasets, two splits, and a method of each kind that is no map.
MANY = """
study:
  datasets: [mine, cells]
  splits: [by-patient, by-slide]
  methods: [net+svm, inner+svm, few+trees, random+forest, tuned+softmax, tuned+svm]
  strategies:
    - {name: features, methods: [net+svm, tuned+svm]}
    - {name: training, methods: [tuned+softmax, tuned+svm]}
networks:
  tuned: {start: net, recipe: warm}
recipes:
  warm:
    head: {dense: [16]}
    phases:
      - {input: features, train: head, epochs: 3, rate: 0.1, optimiser: {kind: sgd}}
      - {train: all, epochs: 1, rate: 0.1, optimiser: {kind: sgd}}
feature_sets:
  inner: {network: net, layers: [block1, block2], use: chosen}
  few: {network: net, selection: rfe}
  random: {pixels: 64, windows: 4}
selections: {rfe: {kind: rfe, step: 0.2}}
classifiers: {trees: {kind: extratrees, max_features: [sqrt]}, forest: {kind: leaf_frequencies, C: [1]}}
splits:
  by-slide: {unit: slide, test: 0.25, folds: 2, share_groups: to see what it is worth}
"""


@pytest.fixture
def study(folder):
    return load(folder, MANY)


@pytest.fixture
def of(study):
    return runs.Runs(study)


def test_every_dataset_split_seed_and_method_is_a_run(of, study):
    found = of.factors()
    assert len(found) == 2 * 2 * 2 * len(study.methods)
    assert len({tuple(run.values()) for run in found}) == len(found)
    assert found[0] == {
        **{"dataset": "mine", "task": "tumour", "split": "by-patient", "seed": 1},
        **{"features": "net", "classifier": "svm"},
    }
    assert found[-1] == {
        **{"dataset": "cells", "task": "cell", "split": "by-slide", "seed": 2},
        **{"features": "tuned", "classifier": "svm"},
    }


def test_runs_of_some_methods_and_of_one_split(of):
    found = of.factors(["tuned+svm", "net+svm"], "by-slide")
    # methods in the order of the study
    assert [(run["dataset"], run["seed"], run["features"]) for run in found] == [
        (dataset, seed, features) for dataset in ("mine", "cells") for seed in (1, 2) for features in ("net", "tuned")
    ]
    assert {run["split"] for run in found} == {"by-slide"}
    assert of.factors([]) == []


def test_paths_of_runs(of):
    assert of.paths_of(paths.RUN_SCORES, ["net+svm"], "by-patient") == [
        f"results/{home}/by-patient/{seed}/net/svm/scores.tsv"
        for home in ("mine/models/tumour", "cells/models/cell")
        for seed in (1, 2)
    ]


def test_models_are_files_of_what_trained_them(of):
    found = of.models()
    assert len(found) == len(of.factors())
    kinds = {path.split("/")[-2]: path.rpartition(".")[2] for path in found}
    assert kinds == {"svm": "skops", "trees": "skops", "forest": "skops", "softmax": "keras"}


def test_models_on_maps_are_networks(folder):
    found = runs.Runs(load(folder, MAPS)).models()
    assert {path.split("/")[-2]: path.rpartition(".")[2] for path in found} == {
        **{"maps": "keras", "end-to-end": "keras", "softmax": "keras"},
    }


def test_trained_networks_are_trained_for_each_dataset_split_and_seed(of):
    found = of.trainings(f"{paths.TRAINING}/model.keras")
    assert len(found) == 8
    assert found[0] == "results/mine/models/tumour/by-patient/1/tuned/softmax/model.keras"


def test_selections_are_those_of_feature_sets_that_select(of):
    found = of.selections("by-slide")
    assert [(run["dataset"], run["seed"]) for run in found] == [("mine", 1), ("mine", 2), ("cells", 1), ("cells", 2)]
    assert found[0] == {"dataset": "mine", "task": "tumour", "split": "by-slide", "seed": 1, "features": "few"}
    assert of.selections("by-slide", "few") == found
    assert of.selections("by-slide", "net") == []


def test_runs_behind_a_choice_say_their_layer(of):
    found = of.of_layers("inner", "svm", "by-patient")
    assert [(run["dataset"], run["seed"], run["features"], run["layer"]) for run in found] == [
        (dataset, seed, f"inner.{layer}", layer)
        for dataset in ("mine", "cells")
        for seed in (1, 2)
        for layer in ("block1", "block2")
    ]


# methods


def test_a_method_in_two_strategies_is_one_variant(study):
    assert runs.variants(study) == ["net+svm", "tuned+svm", "tuned+softmax"]


def test_methods_have_the_kinds_of_their_classifiers(study):
    assert runs.kinds(study, ["few+trees", "tuned+softmax"]) == {"few+trees": "extratrees", "tuned+softmax": "softmax"}


def parts(study, name):
    [method] = [method for method in study.methods if method.name == name]
    return runs.parts(study, method)


NET = {"network": "net", "layer": None}
#: What the head is trained on first is the features of the start.
TUNED = {"network": "tuned", "start": "net", "rules": ["train_head", "train_network"]}


@pytest.mark.parametrize(
    ("name", "different"),
    [
        ("net+svm", {"sources": [NET], "fitted": [("train_classifier", "svm")]}),
        ("few+trees", {"sources": [NET], "selection": True, "fitted": [("train_classifier", "trees")]}),
        ("random+forest", {"fitted": [("train_classifier", "forest")]}),
        (
            "inner+svm",
            {
                "sources": [{"network": "net", "layer": f"block{n}"} for n in (1, 2)],
                "choice": ["inner.block1", "inner.block2"],
                "fitted": [("choose_layer", "svm")],
            },
        ),
        ("tuned+softmax", {"trained": [TUNED]}),
        (
            "tuned+svm",
            {
                "sources": [{"network": "tuned", "layer": None}],
                "fitted": [("train_classifier", "svm")],
                "trained": [TUNED],
            },
        ),
    ],
)
def test_a_method_is_made_of_features_networks_and_what_fits_it(study, name, different):
    features, _, classifier = name.partition("+")
    alike = {"features": features, "classifier": classifier, "sources": [], "selection": False, "choice": []}
    alike |= {"fitted": [], "cell_px": None, "trained": []}
    assert parts(study, name) == {**alike, **different}


@pytest.mark.parametrize(
    ("name", "fitted", "cell_px"),
    [
        ("picture+maps", [("train_unet", "maps")], 16),
        ("net+maps", [("train_unet", "maps")], None),
        ("vectors+end-to-end", [("train_unet", "maps"), ("train_end_to_end", "end-to-end")], None),
    ],
)
def test_a_method_on_maps_is_fitted_by_its_networks(folder, name, fitted, cell_px):
    found = parts(load(folder, MAPS), name)
    assert (found["fitted"], found["cell_px"]) == (fitted, cell_px)
    # costs counts the GPU time of those
    assert {rule for rule, _ in fitted} <= set(costs.ON_GPU)


def test_a_network_that_is_only_a_head_is_put_together(folder):
    phase = "{input: features, train: head, epochs: 3, rate: 0.1, optimiser: {kind: sgd}}"
    text = f"recipes: {{top: {{head: {{}}, phases: [{phase}]}}}}"
    study = load(folder, f"{text}\nnetworks: {{head: {{start: net, recipe: top}}}}\nstudy: {{methods: [head+softmax]}}")
    [found] = parts(study, "head+softmax")["trained"]
    assert found == {"network": "head", "start": "net", "rules": ["train_head", "attach_head"]}
