"""Networks that are trained, run as a user runs them: one study of patches with every way of training."""

from __future__ import annotations

import copy
import json
import shutil

import h5py
import keras
import numpy as np
import pytest
import slide_factory
import study_factory

from histotransfer import store
from histotransfer.networks.trained import load_trained

pytestmark = pytest.mark.workflow

RUN = "patches/models/kind/by-patient/1"
HEADS = "patches/heads/kind/by-patient/1"
FEATURES = "patches/features/kind/by-patient/1"
TRAINED = ["head", "warm", "scratch"]
METHODS = ["net+svm", "head+softmax", "warm+softmax", "warm+svm", "scratch+softmax", "deep+svm"]

SGD = {"optimiser": {"kind": "sgd", "momentum": 0.9}, "rate": 0.01}
RECIPES = {
    "top": {"head": {"dense": [8]}, "batch": 8, "phases": [{"input": "features", "train": "head", "epochs": 3, **SGD}]},
    "pretrained": {
        "head": {"dense": [8]},
        "batch": 8,
        "augmentation": {"quarter_turns": True, "flip": "both"},
        "curve": {"sets": ["test"], "per_epoch": 2},
        "phases": [
            {"input": "features", "train": "head", "epochs": 2, **SGD},
            {"train": 1, "epochs": 2, **SGD, "rates": {"head": 10}},
        ],
    },
    "all": {"batch": 8, "crop_from": 40, "phases": [{"train": "all", "epochs": 2, **SGD}]},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, workflow):
    """The study, finished; not to be changed, but copied."""
    folder = tmp_path_factory.mktemp("trained") / "study"
    slide_factory.write_patches(folder / "data/patches", folder / "data/patches.tsv", patients=10)
    study = study_factory.Study(folder, workflow)
    study.config["study"] |= {"datasets": ["patches"], "methods": METHODS}
    study.config["datasets"] = {"patches": {"kind": "patches", "sheet": "data/patches.tsv", "tasks": ["kind"]}}
    study.config["networks"] |= {
        "head": {"start": "net", "recipe": "top"},
        "warm": {"start": "net", "recipe": "pretrained"},
        "scratch": {"start": "net", "recipe": "all"},
    }
    study.config["feature_sets"] = {"deep": {"network": "warm", "layer": "head_1"}}
    study.config["recipes"] = copy.deepcopy(RECIPES)
    study.config["splits"]["by-patient"] |= {"validation": 0.2}
    study.last = study.run(timeout=900)
    return study


def attributes_of(path):
    with h5py.File(path) as file:
        return dict(file.attrs)


def test_each_way_has_its_rule(trained):
    finished = trained.last.finished
    # two heads begin on features; one of them is all, and one network has no head of its own
    assert {rule: finished.get(rule) for rule in ("train_head", "attach_head", "train_network")} == {
        "train_head": 2,
        "attach_head": 1,
        "train_network": 2,
    }
    assert finished["extract_features"] == 1
    assert finished["extract_trained_features"] == 1


def test_every_trained_network_leaves_the_same_files(trained):
    for name in TRAINED:
        folder = trained.results / RUN / name / "softmax"
        found = {path.name for path in folder.iterdir()}
        assert found >= {"model.keras", "predictions.h5", "history.tsv", "curve.tsv", "scores.tsv"}, name
        history = store.read_table(folder / "history.tsv")
        assert [row["kept"] for row in history].count("yes") == 1
        assert {row["phase"] for row in history} == ({"1", "2"} if name == "warm" else {"1"})
    assert (trained.results / HEADS / "warm/head.keras").is_file()
    # what a killed job would have gone on from is gone
    assert not list(trained.results.glob(".resume/*"))


def test_the_model_predicts_what_was_written(trained):
    for name, px in (("head", 32), ("warm", 32), ("scratch", 40)):
        folder = trained.results / RUN / name / "softmax"
        model = load_trained(folder / "model.keras")
        assert model.input_shape == (None, px, px, 3)
        tiles = {}
        for path in sorted((trained.results / f"patches/pixels/{px}").glob("*.h5")):
            with h5py.File(path) as file:
                tiles |= dict(zip(store.read_texts(file, "tile"), file["tiles"][:], strict=True))
        with h5py.File(folder / "predictions.h5") as file:
            names, written = store.read_texts(file, "tile"), file["score"][:]
        found = keras.ops.convert_to_numpy(model(np.stack([tiles[tile] for tile in names])))
        np.testing.assert_allclose(found, written, atol=1e-4, err_msg=name)


def test_what_the_predictions_say_of_the_network(trained):
    said = {name: attributes_of(trained.results / RUN / name / "softmax/predictions.h5") for name in TRAINED}
    assert {name: bool(one["untrained"]) for name, one in said.items()} == {
        # the random layers under the head were not trained, or all but one block of them
        "head": True,
        "warm": True,
        "scratch": False,
    }
    assert {one["classifier"] for one in said.values()} == {"softmax"}
    assert said["warm"]["recipe"] == "pretrained"
    assert said["warm"]["start"] == "net"


def test_features_of_a_trained_network_say_that_it_saw_the_labels(trained):
    with h5py.File(trained.results / FEATURES / "warm/part-00.h5") as file:
        assert bool(file.attrs["saw_labels"])
        assert json.loads(file.attrs["trained_on"])["split"] == "by-patient"
        assert file["features"].shape[1] == 1280
        assert file["layers/head_1"].shape[1] == 8


def test_the_report_shows_the_training(trained):
    page = (trained.results / "studies/tiny/report.html").read_text("utf-8")
    for words in ("Trained networks", "Grad-CAM", "warm+softmax", "pretrained"):
        assert words in page, words
    found = {f"{row['features']}+{row['classifier']}" for row in trained.table("studies/tiny/scores.tsv")}
    assert found == set(METHODS)


def test_a_changed_recipe_trains_its_own_network_again_and_nothing_else(trained, tmp_path):
    study = trained.copy_to(tmp_path / "study")
    study.config["recipes"]["all"]["phases"][0]["rate"] = 0.02
    planned = study.plan("results/studies/tiny/scores.tsv").planned
    assert planned == {"train_network": 1, "score": 1, "collect_scores": 1}
    study.config["recipes"] = copy.deepcopy(RECIPES)
    study.config["recipes"]["pretrained"]["phases"][1]["rate"] = 0.02
    planned = study.plan("results/studies/tiny/scores.tsv").planned
    # its head too: a recipe is one param
    assert planned == {
        "train_head": 1,
        "train_network": 1,
        "extract_trained_features": 1,
        "train_classifier": 2,
        "score": 3,
        "collect_scores": 1,
    }


@pytest.mark.full
def test_the_same_study_gives_the_same_content_on_one_core(trained, tmp_path):
    again = trained.copy_to(tmp_path / "study")
    # without the pages Snakemake would not look for what they were made of
    for name in ("patches/models", "patches/heads", "patches/features", "studies"):
        shutil.rmtree(again.results / name)
    again.run(cores=1, timeout=900)
    before, after = trained.digests(), again.digests()
    assert {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} == set()
