"""Heads on cached features: trained without a network or a pixel, then put on their start."""

from __future__ import annotations

from dataclasses import replace

import cohort_factory
import numpy as np
import pytest
import training_factory
from training_factory import ADAM, START, phase, recipe

from histotransfer import predictions, store
from histotransfer.definitions import Head
from histotransfer.feature_kinds import Layers, Source
from histotransfer.features import extraction
from histotransfer.networks import building
from histotransfer.networks.trained import load_trained
from histotransfer.settings import Extraction
from histotransfer.tables import feature_matrix
from histotransfer.training import head, head_on_features, network_on_tiles, results

CLASSES = training_factory.CLASSES
OUTPUTS = {"model": "head.keras", "predictions": "predictions.h5", "history": "history.tsv", "curve": "curve.tsv"}
FEATURES = Layers((Source("net"),))
HEAD = {"pool": "average", "dense": [10], "activation": "tanh", "dropout": 0.1}


def on_features(epochs=15, **changes):
    first = phase(on="features", train="head", epochs=epochs, rate=0.02, optimiser=ADAM)
    return recipe(first, head=HEAD, **changes)


def train_head(given):
    training_factory.call(head_on_features.train_head, given)


def outputs(folder):
    return {name: str(folder / file) for name, file in OUTPUTS.items()}


def arguments(cohort, folder, given, **changes):
    written = cohort.write()
    split_file, split = cohort_factory.split_by_patient(
        cohort.folder, written["slides_table"], validation=0.2, test=0.2
    )
    return {
        **written,
        **outputs(folder),
        "split_file": split_file,
        "split": split,
        "feature_set": FEATURES,
        "recipe": given,
        "classes": CLASSES,
        "factors": training_factory.factors("tuned"),
        **training_factory.settings(folder),
        **changes,
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A head trained on twelve features of separable classes."""
    folder = tmp_path_factory.mktemp("head")
    given = arguments(cohort_factory.separable(folder, distance=4), folder, on_features())
    train_head(given)
    return given


def test_a_head_learns_classes_that_lie_apart(trained):
    held_out, out_of_fold, said = predictions.read_predictions(trained["predictions"])
    validation = predictions.read_validation(trained["predictions"])
    assert out_of_fold is None
    assert (len(held_out.tile), len(validation.tile)) == (3 * 8, 3 * 8)
    assert (held_out.predicted == held_out.true).mean() > 0.9
    history = results.read_history(trained["history"])
    best = min(history, key=lambda row: row["validation_loss"])
    assert [row["epoch"] for row in history if row["kept"] == "yes"] == [best["epoch"]]
    assert {(row["phase"], row["on"], row["train"]) for row in history} == {(1, "features", "head")}
    wanted = {
        **{
            "features": "tuned",
            "network": "tuned",
            "start": "net",
            "classifier": "softmax",
            "weights": "trained from imagenet",
        },
        **{
            "kept_epoch": best["epoch"],
            "epochs": 15,
            "kept_by": "validation loss",
            "untrained": False,
            "n_features": 12,
        },
    }
    assert {name: said[name] for name in wanted} == wanted
    assert store.read_table(trained["curve"]) == []


def test_the_saved_head_takes_features_and_gives_the_predictions(trained):
    model = load_trained(trained["model"])
    held_out, _, _ = predictions.read_predictions(trained["predictions"])
    matrix = feature_matrix.open_matrix(manifests=trained["features"], sources=FEATURES.sources)
    place = {key: k for k, key in enumerate(zip(matrix.image, matrix.tile, strict=True))}
    rows = np.array([place[key] for key in zip(held_out.image, held_out.tile, strict=True)])
    found = model.predict(matrix.read(rows), verbose=0)
    np.testing.assert_allclose(found, held_out.probability, atol=1e-6)
    names = [layer.name for layer in model.layers]
    assert names == ["features", "dropout_1", "head_1", "dropout_2", "logits", "probability"]


def test_the_same_study_gives_the_same_bytes(trained, tmp_path):
    again = outputs(tmp_path)
    train_head({**trained, **again})
    for name in ("model", "history", "curve"):
        with open(again[name], "rb") as ours, open(trained[name], "rb") as theirs:
            assert ours.read() == theirs.read(), name
    ours, theirs = (predictions.read_predictions(each["predictions"])[0] for each in (again, trained))
    assert ours.probability.tobytes() == theirs.probability.tobytes()


def test_no_network_is_built_and_no_pixel_file_opened(trained, tmp_path, monkeypatch):
    from histotransfer.tables import tile_pixels

    def forbidden(*arguments, **keywords):
        raise AssertionError("a head on features needs neither a network nor pixels")

    for module, name in ((building, "trunk"), (building, "build"), (tile_pixels, "open_tiles")):
        monkeypatch.setattr(module, name, forbidden)
    train_head({**trained, **outputs(tmp_path)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": [*CLASSES, "mucinous"]}, r"each of the classes .* in train; found none of mucinous"),
        ({"recipe": recipe(phase(on="features", train="head", rate=0.0))}, "must train something"),
        ({"recipe": recipe(phase(on="features", train="block_1"))}, "train: legal are all, head"),
    ],
)
def test_bad_input_is_refused(trained, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        train_head({**trained, **outputs(tmp_path), **changes})


@pytest.fixture(scope="module")
def of_pixels(tmp_path_factory):
    """A head on true features of the smallest network, with the pixels that they are of."""
    folder = tmp_path_factory.mktemp("pixels")
    cohort = training_factory.write_cohort(folder)
    manifest = str(folder / "features/net/part-00.json")
    extraction.extract(
        tiles=cohort["pixels"],
        job=extraction.ShardJob(
            network_name="net",
            network=START,
            weights_file=None,
            manifest=manifest,
            shard="part-00",
            master_seed=2018,
            code="c",
        ),
        extraction=Extraction(batch=16),
        threads=2,
    )
    first = phase(on="features", train="head", epochs=4, rate=0.02, optimiser=ADAM)
    given = recipe(
        first,
        phase(train=1, epochs=1, rate=0.01),
        head=HEAD,
        keep="last",
        curve={"sets": ["test"], "per_epoch": 1, "tiles": None},
    )
    common = {name: cohort[name] for name in ("labels", "slides_table", "split_file", "split", "classes")}
    own = {
        **common,
        **{"features": [manifest], "feature_set": FEATURES, "recipe": given, "factors": training_factory.factors()},
        **training_factory.settings(folder),
        **outputs(folder / "head"),
    }
    train_head(own)
    return folder, cohort, own


def test_an_attached_head_gives_the_predictions_of_the_head(of_pixels, tmp_path):
    _, cohort, own = of_pixels
    copies = {name: str(tmp_path / name) for name in ("predictions", "history", "curve")}
    of_head = {f"head_{name}": own[name] for name in copies}
    only_head = replace(own["recipe"], phases=own["recipe"].phases[:1])
    given = {"head": own["model"], **of_head, "model": str(tmp_path / "model.keras"), **copies, "weights_file": []}
    given |= {"start": START, "start_name": "net", "recipe": only_head, "classes": CLASSES, "master_seed": 2018}
    training_factory.call(head_on_features.attach, given)
    for name, path in copies.items():
        with open(path, "rb") as ours, open(own[name], "rb") as theirs:
            assert ours.read() == theirs.read(), name
    from histotransfer.tables import tile_pixels

    model = load_trained(tmp_path / "model.keras")
    held_out, _, _ = predictions.read_predictions(own["predictions"])
    tiles = tile_pixels.open_tiles(cohort["pixels"])
    place = {key: k for k, key in enumerate(zip(tiles.image, tiles.tile, strict=True))}
    rows = np.array([place[key] for key in zip(held_out.image, held_out.tile, strict=True)])
    np.testing.assert_allclose(model.predict(tiles.read(rows), verbose=0), held_out.probability, atol=1e-5)


def test_training_on_tiles_goes_on_from_the_head(of_pixels, tmp_path):
    _, cohort, own = of_pixels
    given = training_factory.arguments(cohort, tmp_path, own["recipe"], head=own["model"])
    training_factory.call(network_on_tiles.train_network, given)
    history = results.read_history(given["history"])
    assert [(row["phase"], row["on"], row["epoch"], row["kept"]) for row in history] == [
        *((1, "features", epoch, "no") for epoch in range(1, 5)),
        (2, "tiles", 5, "yes"),
    ]
    before = results.read_history(own["history"])
    assert [row["loss"] for row in history[:4]] == [row["loss"] for row in before]
    # six steps an epoch; the last one goes on from what the head had learnt
    assert [row["step"] for row in history] == [6, 12, 18, 24, 30]
    assert history[4]["loss"] < 1.2 * before[-1]["loss"]
    assert [row["step"] for row in results.read_curve(given["curve"])] == [0, 6, 12, 18, 24, 30]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dense": []}, r"its layers must be logits; found head_1, logits"),
        (
            {"dense": [11]},
            r"the weights of head_1 must have the shapes \[\(8, 11\), \(11,\)\]; found \[\(8, 10\), \(10,\)\]",
        ),
    ],
)
def test_a_head_of_another_recipe_is_refused(of_pixels, tmp_path, changes, message):
    _, cohort, own = of_pixels
    other = replace(own["recipe"], head=Head(**{**HEAD, **changes}))
    given = training_factory.arguments(cohort, tmp_path, other, head=own["model"])
    with pytest.raises(ValueError, match=f"head .*head.keras: {message}"):
        training_factory.call(network_on_tiles.train_network, given)


@pytest.mark.parametrize(
    ("dense", "pool", "expected"),
    [
        ([], "average", ["pool", "logits"]),
        ([7, 5], "flatten", ["pool", "dropout_1", "head_1", "dropout_2", "head_2", "dropout_3", "logits"]),
    ],
)
def test_layers_of_a_head(dense, pool, expected):
    import keras

    dropout = 0.5 if dense else 0.0
    built = head.build_head(Head(pool=pool, dense=tuple(dense), dropout=dropout), 3, dimensions=4)
    logits = built(keras.Input((2, 2, 8)))
    assert [layer.name for layer in built.layers] == expected
    assert logits.shape == (None, 3)
    assert built.layers[-1].activation is keras.activations.linear
    kernels = [layer.kernel.shape for layer in built.layers if layer.weights]
    assert kernels == ([(8, 3)] if not dense else [(32, 7), (7, 5), (5, 3)])
