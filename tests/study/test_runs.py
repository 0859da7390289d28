"""The runs of a study, and what its methods are made of."""

from __future__ import annotations

import pytest
from config_factory import MAPS, load

from histotransfer.definitions import Draw, Factors
from histotransfer.evaluation import costs
from histotransfer.feature_kinds import Source
from histotransfer.settings import Fit, MethodParts, NetworkTraining
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
    assert len(set(found)) == len(found)
    assert found[0] == Factors("mine", "tumour", "by-patient", Draw(1), "net", "svm")
    assert found[-1] == Factors("cells", "cell", "by-slide", Draw(2), "tuned", "svm")


def test_runs_of_some_methods_and_of_one_split(of):
    found = of.factors(["tuned+svm", "net+svm"], "by-slide")
    # methods in the order of the study
    assert [(run.dataset, run.seed, run.features) for run in found] == [
        (dataset, seed, features) for dataset in ("mine", "cells") for seed in (1, 2) for features in ("net", "tuned")
    ]
    assert {run.split for run in found} == {"by-slide"}
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
    assert [(run.dataset, run.seed) for run in found] == [("mine", 1), ("mine", 2), ("cells", 1), ("cells", 2)]
    assert found[0] == Factors("mine", "tumour", "by-slide", Draw(1), "few")
    assert of.selections("by-slide", "few") == found
    assert of.selections("by-slide", "net") == []


def test_runs_behind_a_choice_are_those_of_its_layers(of):
    found = of.of_layers("inner", "svm", "by-patient")
    assert [(run.dataset, run.seed, run.features, run.classifier) for run in found] == [
        (dataset, seed, f"inner.{layer}", "svm")
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


def rule_of(study, name):
    [method] = [method for method in study.methods if method.name == name]
    return runs.rule_of_model(study, method)


NET = Source("net")
#: What the head is trained on first is the features of the start.
TUNED = NetworkTraining("tuned", "net", ("train_head", "train_network"))


@pytest.mark.parametrize(
    ("name", "different", "rule"),
    [
        ("net+svm", {"sources": (NET,), "fitted": (Fit("train_classifier", "svm"),)}, "train_classifier"),
        (
            "few+trees",
            {"sources": (NET,), "selection": True, "fitted": (Fit("train_classifier", "trees"),)},
            "train_classifier",
        ),
        ("random+forest", {"fitted": (Fit("train_classifier", "forest"),)}, "train_classifier"),
        (
            "inner+svm",
            {
                "sources": tuple(Source("net", f"block{n}") for n in (1, 2)),
                "choice": ("inner.block1", "inner.block2"),
                "fitted": (Fit("choose_layer", "svm"),),
            },
            "choose_layer",
        ),
        ("tuned+softmax", {"trained": (TUNED,)}, "train_network"),
        (
            "tuned+svm",
            {"sources": (Source("tuned"),), "fitted": (Fit("train_classifier", "svm"),), "trained": (TUNED,)},
            "train_classifier",
        ),
    ],
)
def test_a_method_is_made_of_features_networks_and_what_fits_it(study, name, different, rule):
    features, _, classifier = name.partition("+")
    assert parts(study, name) == MethodParts(features, classifier, **different)
    assert rule_of(study, name) == rule


@pytest.mark.parametrize(
    ("name", "fitted", "cell_px"),
    [
        ("picture+maps", (Fit("train_unet", "maps"),), 16),
        ("net+maps", (Fit("train_unet", "maps"),), None),
        ("vectors+end-to-end", (Fit("train_unet", "maps"), Fit("train_end_to_end", "end-to-end")), None),
    ],
)
def test_a_method_on_maps_is_fitted_by_its_networks(folder, name, fitted, cell_px):
    study = load(folder, MAPS)
    found = parts(study, name)
    assert (found.fitted, found.cell_px) == (fitted, cell_px)
    assert rule_of(study, name) == fitted[-1].rule
    # costs counts the GPU time of those
    assert {fit.rule for fit in fitted} <= set(costs.ON_GPU)


def test_datasets_are_made_of_tasks_shards_and_slides(study):
    found = runs.parts_of_datasets(study)
    assert list(found) == ["mine", "cells"]
    assert found["mine"].tasks == ("tumour",)
    assert found["mine"].parts == tuple(f"s{k}" for k in range(8))
    assert set(found["mine"].shards) <= {"shard-0", "shard-1"}


def test_a_network_that_is_only_a_head_is_put_together(folder):
    phase = "{input: features, train: head, epochs: 3, rate: 0.1, optimiser: {kind: sgd}}"
    text = f"recipes: {{top: {{head: {{}}, phases: [{phase}]}}}}"
    study = load(folder, f"{text}\nnetworks: {{head: {{start: net, recipe: top}}}}\nstudy: {{methods: [head+softmax]}}")
    [found] = parts(study, "head+softmax").trained
    assert found == NetworkTraining("head", "net", ("train_head", "attach_head"))
    assert rule_of(study, "head+softmax") == "attach_head"
