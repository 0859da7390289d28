"""Every strategy that trains no network, run as a user runs them: one study of patches with all of them."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
import slide_factory
import study_factory
import yaml
from repository import ROOT

from histotransfer import store

pytestmark = pytest.mark.workflow

STUDIES = ROOT / "studies"

SMALL = {
    "net": {"architecture": "MobileNetV2", "alpha": 0.35, "weights": "random", "px": 32},
    "other": {"architecture": "MobileNet", "alpha": 0.25, "weights": "random", "px": 32},
}
#: Of each network of the paper whose inner layers it uses: the first and the last.
TWO_LAYERS = {
    "resnet50": ["stem", "conv5_block3"],
    "inceptionresnetv2": ["mixed_5b", "conv_7b"],
    "densenet201": ["stem", "relu"],
}
METHODS = ["windows+et-fl", "net+svm", "net+trees", "few+trees", "merged+trees", "inner+svm", "both+trees"]


@pytest.fixture(scope="module")
def strategies(tmp_path_factory, workflow):
    """A study with every strategy, finished; not to be changed, but copied."""
    folder = tmp_path_factory.mktemp("strategies") / "study"
    slide_factory.write_patches(folder / "data/patches", folder / "data/patches.tsv", patients=6)
    study = study_factory.Study(folder, workflow)
    study.config["study"] |= {
        "datasets": ["patches"],
        "methods": METHODS,
        "comparisons": [
            {"name": "every", "title": "Every method", "methods": "all", "reference": "net+trees"},
        ],
        "strategies": [
            {"name": "last", "methods": ["net+svm", "net+trees"]},
            {"name": "inner", "methods": ["inner+svm"]},
            {"name": "merged", "methods": ["merged+trees", "both+trees"]},
        ],
        "friedman": ["last", "inner", "merged"],
    }
    study.config["datasets"] = {"patches": {"kind": "patches", "sheet": "data/patches.tsv", "tasks": ["kind"]}}
    study.config["networks"] = SMALL
    study.config["feature_sets"] = {
        "windows": {"pixels": 32, "windows": 6, "window_px": 8},
        "few": {"network": "net", "selection": "rfe"},
        "merged": {"network": "net", "layers": ["block_3", "block_10", "out"], "use": "merged"},
        "inner": {"network": "net", "layers": ["block_3", "block_10", "out"], "use": "chosen"},
        "both": {"networks": ["other", "net"]},
    }
    study.config["selections"] = {"rfe": {"kind": "rfe", "step": 0.3, "trees": 10}}
    study.config["classifiers"] |= {
        "trees": {"kind": "extratrees", "trees": 10, "max_features": ["sqrt"]},
        "et-fl": {"kind": "leaf_frequencies", "trees": 4, "min_samples_leaf": 3, "C": [0.1, 1]},
    }
    study.last = study.run(timeout=900)
    return study


def run_of(study, features, classifier):
    return study.results / f"patches/models/kind/by-patient/1/{features}/{classifier}"


def attributes_of(path):
    with h5py.File(path) as file:
        return dict(file.attrs)


def test_one_pass_a_network_serves_every_strategy(strategies):
    assert strategies.last.finished["extract_features"] == 2, "two networks, one shard each"
    assert sorted(path.name for path in strategies.results.glob("patches/features/*")) == ["net", "other"]
    with h5py.File(strategies.results / "patches/features/net/part-00.h5") as file:
        assert sorted(file["layers"]) == ["block_10", "block_3"]


def test_every_method_is_in_the_table_of_scores(strategies):
    found = {f"{row['features']}+{row['classifier']}" for row in strategies.table("studies/tiny/scores.tsv")}
    assert found == {*METHODS, *(f"inner.{layer}+svm" for layer in ("block_3", "block_10", "out"))}


def test_merged_features_are_those_of_each_side_by_side(strategies):
    columns = {
        name: json.loads(attributes_of(run_of(strategies, name, "trees") / "predictions.h5")["columns"])
        for name in ("merged", "both")
    }
    with h5py.File(strategies.results / "patches/features/net/part-00.h5") as file:
        inner = {name: node.shape[1] for name, node in file["layers"].items()}
    assert columns["merged"] == [
        ["net", "block_3", inner["block_3"]],
        ["net", "block_10", inner["block_10"]],
        ["net", "out", 1280],
    ]
    assert columns["both"] == [["other", "block_13", 256], ["net", "out", 1280]]


def test_selection_keeps_nested_subsets_and_the_classifiers_are_trained_on_the_chosen(strategies):
    folder = strategies.results / "patches/selections/kind/by-patient/1/few"
    with h5py.File(folder / "subsets.h5") as file:
        sizes, k_min, order = file["sizes"][:], int(file.attrs["k_min"]), file["order"][:]
        assert sorted(order) == list(range(1280))
        assert k_min in sizes
        assert len(file["folds"]) == 2
    assert int(attributes_of(run_of(strategies, "few", "trees") / "predictions.h5")["n_selected"]) == k_min
    curve = store.read_table(folder / "curve.tsv")
    assert [row["size"] for row in curve if row["kept"] == "yes" and row["fold"] == "mean"] == [str(k_min)]


def test_the_chosen_layer_has_the_best_validation_and_its_predictions(strategies):
    chosen = json.loads(attributes_of(run_of(strategies, "inner", "svm") / "predictions.h5")["chosen"])["layer"]
    means = {}
    for layer in ("block_3", "block_10", "out"):
        rows = store.read_table(run_of(strategies, f"inner.{layer}", "svm") / "tuning.tsv")
        means[layer] = max(float(row["score"]) for row in rows if row["fold"] == "mean")
    assert means[chosen] == max(means.values())
    with (
        h5py.File(run_of(strategies, "inner", "svm") / "predictions.h5") as choice,
        h5py.File(run_of(strategies, f"inner.{chosen}", "svm") / "predictions.h5") as layer,
    ):
        np.testing.assert_array_equal(choice["score"][:], layer["score"][:])


def test_each_chapter_has_its_numbers_and_its_figure(strategies):
    study = strategies.results / "studies/tiny"
    for stem in (
        *("comparisons/every/by-patient/ranks", "comparisons/every/by-patient/differences"),
        *("layers/by-patient/inner/svm", "importance/by-patient/merged/trees", "importance/by-patient/both/trees"),
        "selection/by-patient/few",
    ):
        assert store.read_csv(study / f"{stem}.csv"), stem
        assert (study / f"{stem}.svg").read_text("utf-8").startswith("<svg"), stem
    ranks = store.read_csv(study / "comparisons/every/by-patient/ranks.csv")
    assert sum(float(row["average_rank"]) for row in ranks) == pytest.approx(10 * 11 / 2)
    page = (study / "report.html").read_text("utf-8")
    for words in ("Every method", "Inner layers", "Selected features", "Untrained network"):
        assert words in page, words
    said = json.loads((study / "strategies/by-patient/friedman.json").read_text())
    assert said["tested"] is False
    assert said["sentence"].startswith("No Friedman test: it is made from 10 datasets on")


def test_an_added_classifier_extracts_nothing_and_trains_itself_alone(strategies, tmp_path):
    study = strategies.copy_to(tmp_path / "study")
    study.config["study"]["methods"] = [*METHODS, "both+one-vs-rest"]
    study.config["classifiers"]["one-vs-rest"] = {"kind": "liblinear", "C": [0.01]}
    planned = study.plan("results/studies/tiny/scores.tsv").planned
    assert planned == {"train_classifier": 1, "score": 1, "collect_scores": 1}


def test_an_added_selection_and_an_added_layer_choice_extract_nothing(strategies, tmp_path):
    study = strategies.copy_to(tmp_path / "study")
    study.config["feature_sets"]["fewer"] = {"networks": ["net", "other"], "selection": "rfe"}
    study.config["feature_sets"]["two"] = {"network": "net", "layers": ["block_3", "out"], "use": "chosen"}
    study.config["study"]["methods"] = [*METHODS, "fewer+svm", "two+svm"]
    planned = study.plan("results/studies/tiny/scores.tsv").planned
    assert planned == {
        "select_features": 1,
        "train_classifier": 3,
        "choose_layer": 1,
        "score": 4,
        "collect_scores": 1,
    }


@pytest.mark.full
def test_the_study_of_mormont_2018_runs_whole_on_small_data(tmp_path, workflow):
    """The paper's own study file, over two small datasets: its seven networks untrained and at their smallest input."""
    study = study_factory.Study(tmp_path / "study", workflow)
    for name, seed in (("a", 1), ("b", 2)):
        sheet = study.folder / f"data/{name}.tsv"
        rows = slide_factory.write_patches(study.folder / f"data/{name}", sheet, patients=6, images=1, seed=seed)
        given = {f"p{n:02d}": "test" if n > 3 else "train" for n in range(6)}
        slide_factory.write_sheet(sheet, [{**row, "split": given[row["patient"]]} for row in rows])
    paper = yaml.safe_load((STUDIES / "mormont2018.yaml").read_text())
    small = {"InceptionV3": 75, "InceptionResNetV2": 75}
    study.config = {
        "study": {**paper["study"], "datasets": ["a", "b"]},
        "n_shards": 1,
        "datasets": {name: {"kind": "patches", "sheet": f"data/{name}.tsv", "tasks": ["kind"]} for name in "ab"},
        "tasks": {"kind": {"classes": ["alpha", "beta"]}},
        "networks": {
            name: network
            if "recipe" in network
            else {**network, "weights": "random", "px": small.get(network["architecture"], 32)}
            for name, network in paper["networks"].items()
        },
        # two epochs in place of fifty
        "recipes": {
            "mormont2018": {
                "phases": [
                    {"train": part, "epochs": 1, "optimiser": {"kind": "adam", "beta_1": 0.99}, "rate": 1e-5}
                    for part in ("head", "all")
                ]
            }
        },
        "feature_sets": {
            **paper["feature_sets"],
            "random-windows": {"pixels": 32, "windows": 4, "window_px": 8},
            **{
                f"{network}-inner": {"network": network, "layers": layers, "use": "chosen"}
                for network, layers in TWO_LAYERS.items()
            },
        },
        "selections": {"rfe": {"kind": "rfe", "step": 0.5, "trees": 5}},
        "classifiers": {
            "svm": {"C": [0.01]},
            "extratrees": {"trees": 5, "max_features": ["sqrt"]},
            "perceptron": {"learning_rate": [0.01], "iterations": [2]},
            "et-fl": {"trees": 2, "C": [1]},
        },
        "splits": {"as-given": {"unit": "given", "groups": "patient", "folds": 2}},
        "evaluation": {"bootstrap": 20},
    }
    for name, changed in study.config["classifiers"].items():
        study.config["classifiers"][name] = {**paper["classifiers"][name], **changed}
    study.run(timeout=3000)
    merged = store.read_csv(study.results / "studies/mormont2018/importance/as-given/seven-networks/extratrees.csv")
    assert sum(int(row["features"]) for row in merged) == 9600
    assert [row["source"] for row in merged] == paper["feature_sets"]["seven-networks"]["networks"]
    ranks = store.read_csv(study.results / "studies/mormont2018/comparisons/last-layer/as-given/ranks.csv")
    assert len(ranks) == 22
    table = store.read_csv(study.results / "studies/mormont2018/strategies/as-given/strategies.csv")
    assert {row["strategy"] for row in table} == {one["name"] for one in paper["study"]["strategies"]}
