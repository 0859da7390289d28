"""Networks that are trained on tiles: one step against its formula in every group, a training killed, bad input."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import training_factory
from training_factory import ADAM, SGD, begin, finished, phase, recipe

from histotransfer import predictions, provenance, store
from histotransfer.networks import building
from histotransfer.networks.trained import load_trained
from histotransfer.training import network_on_tiles, results
from histotransfer.training.learner import Learner
from histotransfer.training.network import build

CLASSES = training_factory.CLASSES
#: Two phases, dropout, augmentation, two optimisers: everything that a checkpoint has to carry.
RECIPE = recipe(
    phase(train="head", epochs=2, rate=0.02, optimiser=ADAM),
    phase(train="block_1", epochs=6, rate=0.02, rates={"head": 2.0}, layer_decay=0.5),
    head={"pool": "average", "dense": [6], "activation": "relu", "dropout": 0.2},
    augmentation={"quarter_turns": True, "flip": "both", "saturation": [0.75, 1.25], "rotate": 20.0},
    curve={"sets": ["train", "test"], "per_epoch": 2, "tiles": 8},
    monitor="accuracy",
)
TRAIN = "training.network_on_tiles.train_network"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Tiles of three classes; of each patient one has no label."""
    return training_factory.write_cohort(tmp_path_factory.mktemp("cohort"), tiles=4, unlabelled=1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cohort):
    """The results of an undisturbed training: its folder and what it said."""
    folder = tmp_path_factory.mktemp("trained")
    return folder, finished(begin(TRAIN, training_factory.arguments(cohort, folder, RECIPE)))


def test_history_has_a_row_an_epoch_over_all_phases(trained):
    rows = results.read_history(str(trained[0] / "history.tsv"))
    assert [(row["phase"], row["train"], row["epoch"]) for row in rows] == [
        *((1, "head", epoch) for epoch in (1, 2)),
        *((2, "block_1", epoch) for epoch in range(3, 9)),
    ]
    # 12 patients of 3 labelled tiles, in batches of 8
    assert [row["step"] for row in rows] == list(range(5, 45, 5))
    values = [row["validation_accuracy"] for row in rows]
    assert [row["kept"] for row in rows].index("yes") == values.index(max(values))
    assert "epoch 8 of 8: loss" in trained[1]


def test_curve_begins_before_the_first_step(trained):
    rows = results.read_curve(str(trained[0] / "curve.tsv"))
    assert [row["step"] for row in rows[:4]] == [0, 0, 2, 2]
    assert {(row["set"], row["tiles"]) for row in rows} == {("train", 8), ("test", 8)}
    assert rows[-1]["step"] == 40
    assert rows[-1]["epoch"] == 8


def test_predictions_are_those_of_the_kept_network(trained, cohort):
    folder = trained[0]
    held_out, out_of_fold, said = predictions.read_predictions(str(folder / "predictions.h5"))
    validation = predictions.read_validation(folder / "predictions.h5")
    assert out_of_fold is None
    rows = {row["group"]: row["set"] for row in store.read_table(cohort["split_file"])}
    model = load_trained(folder / "model.keras")
    for found, name in ((held_out, "test"), (validation, "validation")):
        assert {rows[group] for group in found.group} == {name}
        # all four tiles of each of three patients; one has no label
        assert (len(found.tile), (found.true == -1).sum()) == (12, 3)
        files = {path: h5py.File(path) for path in cohort["pixels"] if Path(path).stem in found.image}
        tiles = [
            next(file["tiles"][int(tile[0])] for path, file in files.items() if Path(path).stem == image)
            for tile, image in zip(found.tile, found.image, strict=True)
        ]
        expected = model.predict(np.stack(tiles), verbose=0)
        np.testing.assert_allclose(found.probability, expected, atol=2e-6)
        assert found.probability.sum(axis=1) == pytest.approx(np.ones(12), abs=1e-12)
    history = results.read_history(str(folder / "history.tsv"))
    kept = next(row for row in history if row["kept"] == "yes")
    labelled = validation.true != -1
    assert (validation.predicted == validation.true)[labelled].mean() == pytest.approx(kept["validation_accuracy"])
    assert said["chosen"] == {"epoch": kept["epoch"]}
    wanted = {
        **{"features": "net-tuned", "network": "net-tuned", "start": "net", "recipe": "tiny", "classifier": "softmax"},
        **{"kept_epoch": kept["epoch"], "kept_by": "validation accuracy", "epochs": 8, "monitor": "accuracy"},
        **{"n_train_tiles": 36, "n_train_groups": 12, "n_features": 8, "group_unit": "patient"},
        # the stem and the first block of a random start were never trained
        **{"untrained": True, "weights": "random, and trained in part"},
    }
    assert {name: said[name] for name in wanted} == wanted
    assert json.loads(said["columns"]) == [["net-tuned", "block_2", 8]]


def test_the_saved_network_is_made_of_named_parts(trained):
    model = load_trained(trained[0] / "model.keras")
    names = [layer.name for layer in model.layers]
    assert names == ["tiles", "image", "trunk", "pool", "dropout_1", "head_1", "dropout_2", "logits", "probability"]
    assert "block_1_expand" in [layer.name for layer in model.get_layer("trunk").layers]
    assert (model.input.dtype, model.output.shape) == ("uint8", (None, 3))


def test_success_leaves_no_checkpoint(trained):
    assert list((trained[0] / ".resume").iterdir()) == []


@pytest.mark.faults
def test_a_training_that_is_killed_comes_to_the_same_bits(trained, cohort, tmp_path):
    arguments = training_factory.arguments(cohort, tmp_path, RECIPE)
    chance = random.Random(time.time_ns())
    epochs_seen = chance.randint(1, 6)
    job = begin(TRAIN, arguments)
    said = []
    for line in job.stdout:
        said.append(line)
        if f"epoch {epochs_seen} of 8: loss" in line:
            time.sleep(chance.random() * 0.2)
            break
    os.kill(job.pid, signal.SIGKILL)
    assert job.wait() == -signal.SIGKILL, "".join(said)
    job.stdout.close()
    assert not (tmp_path / "model.keras").exists()
    again = finished(begin(TRAIN, arguments))
    # the epoch that had just been finished may not have been written
    assert any(f"goes on after epoch {n}" in again for n in range(max(1, epochs_seen - 1), 9)) or epochs_seen == 1
    for name, suffix in training_factory.OUTPUTS.items():
        # of the network every byte
        ours, undisturbed = tmp_path / f"{name}{suffix}", trained[0] / f"{name}{suffix}"
        assert provenance.content_digest(ours) == provenance.content_digest(undisturbed), name


def gradients(model, variables, tiles, labels):
    """Return the gradients of the mean cross-entropy, by Keras' own training step: a rate of 1 and no momentum."""
    import keras

    before = [np.array(variable.numpy()) for variable in model.variables]
    model.compile(keras.optimizers.SGD(1.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    kept = [np.array(variable.numpy()) for variable in variables]
    model.train_on_batch(tiles, labels)
    found = [old - np.array(variable.numpy()) for old, variable in zip(kept, variables, strict=True)]
    for variable, value in zip(model.variables, before, strict=True):
        variable.assign(value)
    return found


def network_of(given, **changes):
    return build(
        start=training_factory.start(**changes),
        start_name="net",
        recipe=given,
        n_classes=len(CLASSES),
        weights_file=None,
        master_seed=1,
        stream=("scans", "kind"),
    )


def fit(network, given, tiles, labels, folder):
    """Train on all tiles, which are one batch."""

    def read(rows, batch, generator):
        yield tiles[rows]

    learner = Learner(network.trained, network.evaluated, network.groups, read, prepare=network.prepare)
    nothing = np.empty(0, int)
    rows = {"train": np.arange(len(labels)), "validation": nothing, "test": nothing}
    return training_factory.train(learner, given, labels=labels, rows=rows, folder=folder)


def batch_of(n=24, px=32):
    generator = np.random.default_rng(3)
    labels = (np.arange(n) % 3).astype(np.int16)
    tiles = np.concatenate([training_factory.tiles_of(int(k), 1, px, generator) for k in labels])
    return tiles, labels


@pytest.mark.backend
@pytest.mark.parametrize("optimiser", [SGD, ADAM], ids=["sgd", "adam"])
def test_two_steps_against_the_updates_computed_by_hand_in_every_group(optimiser, tmp_path):
    rate, rates = 0.05, {"head": 10.0, "block_1": 0.25, "block_0": 0.0}
    asked = phase(epochs=2, rate=rate, rates=rates, layer_decay=0.5, weight_decay=0.1, optimiser=optimiser)
    given = recipe(asked, batch=24)
    network = network_of(given)
    tiles, labels = batch_of()
    everything = network.trained.variables
    begun = {variable.path: np.array(variable.numpy()) for variable in everything}
    # depth: stem, block_0, block_1, block_2, head
    factors = {"stem": 0.5**4, "block_1": 0.25 * 0.5**2, "block_2": 0.5, "head": 10.0}
    group_of = {}
    for group, layers in network.groups.items():
        for layer in layers:
            layer.trainable = group in factors
            group_of |= {weight.path: group for weight in layer.trainable_weights}
    weights = network.trained.trainable_variables
    inputs = np.array(building.preprocess(tiles, network.start.preprocessing))

    slots = [np.zeros((2, *weight.shape)) for weight in weights]
    for step in (1, 2):
        slopes = gradients(network.trained, weights, inputs, labels)
        for k, (weight, slope) in enumerate(zip(weights, slopes, strict=True)):
            own = rate * factors[group_of[weight.path]]
            value = np.array(weight.numpy(), np.float64)
            value -= own * 0.1 * value * (value.ndim > 1)
            if optimiser is SGD:
                slots[k][0] = 0.9 * slots[k][0] - own * slope
                value += slots[k][0]
            else:
                slots[k][0] = 0.9 * slots[k][0] + 0.1 * slope
                slots[k][1] = 0.999 * slots[k][1] + 0.001 * slope**2
                mean, square = slots[k][0] / (1 - 0.9**step), slots[k][1] / (1 - 0.999**step)
                value -= own * mean / (np.sqrt(square) + 1e-7 / np.sqrt(1 - 0.999**step))
            weight.assign(value.astype(np.float32))
    expected = {weight.path: np.array(weight.numpy()) for weight in weights}
    for variable in everything:
        variable.assign(begun[variable.path])

    fit(network, given, tiles, labels, tmp_path)
    assert {group_of[path] for path in expected} == set(factors)
    for weight in weights:
        path = weight.path
        moved, wanted = np.array(weight.numpy()) - begun[path], expected[path] - begun[path]
        size = np.abs(wanted).max()
        assert size > 0, path
        # Adam divides by the gradient's own size, also where that is a rounding error: most must agree
        differing = np.abs(moved - wanted) > 0.01 * size
        assert differing.mean() <= (0.0 if optimiser is SGD else 0.02), path


@pytest.mark.backend
def test_frozen_weights_keep_their_bits_and_their_statistics_do_not_move(tmp_path):
    given = recipe(phase(train=1, epochs=2, rate=0.05), batch=24)
    network = network_of(given)
    tiles, labels = batch_of()
    before = {variable.path: np.array(variable.numpy()) for variable in network.trained.variables}
    fit(network, given, tiles, labels, tmp_path)
    for group, layers in network.groups.items():
        for layer in layers:
            for variable in layer.weights:
                same = (before[variable.path] == np.array(variable.numpy())).all()
                assert same == (group not in ("block_2", "head")), variable.path


@pytest.mark.backend
def test_moving_statistics_of_what_is_trained_follow_the_batch(tmp_path):
    import keras

    given = recipe(phase(epochs=1, rate=1e-9), batch=24)
    network = network_of(given)
    tiles, labels = batch_of()
    trunk = next(layer for layer in network.trained.layers if layer.name == "trunk")
    first = keras.Model(trunk.input, trunk.get_layer("Conv1").output)
    inputs = np.array(building.preprocess(tiles, network.start.preprocessing))
    maps = first.predict(inputs, verbose=0).astype(np.float64)
    fit(network, given, tiles, labels, tmp_path)
    layer = trunk.get_layer("bn_Conv1")
    # from 0 and 1, a tenth of the way
    mean, variance = maps.mean(axis=(0, 1, 2)), maps.var(axis=(0, 1, 2))
    np.testing.assert_allclose(np.array(layer.moving_mean.numpy()), 0.1 * mean, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(np.array(layer.moving_variance.numpy()), 0.9 + 0.1 * variance, rtol=1e-3)


@pytest.mark.backend
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_learns_and_its_weights_stay_float32(precision, tmp_path):
    given = recipe(phase(epochs=6, rate=0.02), batch=24, precision=precision, keep="last")
    network = network_of(given)
    outcome = fit(network, given, *batch_of(), tmp_path)
    assert outcome.history[-1]["loss"] < 0.7 * outcome.history[0]["loss"]
    trunk = next(layer for layer in network.trained.layers if layer.name == "trunk")
    assert trunk.get_layer("Conv1").compute_dtype == precision.removeprefix("mixed_")
    assert {str(np.array(weight.numpy()).dtype) for weight in network.trained.weights} == {"float32"}
    assert network.model.output.dtype == "float32"


@pytest.mark.backend
def test_tiles_that_are_larger_are_cropped_at_random_in_training_and_in_the_middle_in_testing():
    given = recipe(crop_from=36)
    network = network_of(given, rescale="unit")
    tiles, _ = batch_of(px=36)
    from histotransfer.training import augmentation

    drawn = augmentation.draw(None, n=24, px_stored=36, px=32, generator=np.random.default_rng(0))
    found = np.array(network.prepare(tiles, drawn))
    for k, (y, x) in enumerate(drawn["corner"]):
        np.testing.assert_allclose(found[k], tiles[k, y : y + 32, x : x + 32] / 255, atol=1e-6)
    middle = np.array(network.model.get_layer("image")(tiles))
    np.testing.assert_allclose(middle, tiles[:, 2:34, 2:34] / 255, atol=1e-6)


def test_auxiliary_outputs_are_trained_and_not_saved(tmp_path):
    given = recipe(phase(epochs=1, rate=0.001), batch=6, auxiliary=0.3)
    network = network_of(given, architecture="GoogLeNet", alpha=None, px=64, layer="inception_4e")
    tiles, labels = batch_of(6, px=64)
    layers = {layer.name: layer for layer in network.groups["head"]}
    assert {"auxiliary_1", "auxiliary_2", "logits"} <= set(layers)
    assert len(network.trained.outputs) == 3
    before = {name: layer.get_weights() for name, layer in layers.items() if layer.weights}
    fit(network, given, tiles, labels, tmp_path)
    # every layer of the auxiliary classifiers has moved, by gradients of the further outputs alone
    for name, weights in before.items():
        after = layers[name].get_weights()
        assert any((a != b).any() for a, b in zip(weights, after, strict=True)), name
    assert len(before) >= 7
    names = {layer.name for layer in network.model.get_layer("trunk").layers}
    assert not names & set(before)
    results.save_network(str(tmp_path / "model.keras"), network.model)
    loaded = load_trained(tmp_path / "model.keras")
    np.testing.assert_allclose(np.array(loaded(tiles)), np.array(network.model(tiles)), atol=1e-6)


def test_networks_without_auxiliary_outputs_have_none_whatever_the_recipe_weighs():
    assert len(network_of(recipe(auxiliary=0.3)).trained.outputs) == 1


@pytest.mark.backend
def test_a_network_with_convolutions_and_a_flattened_head_is_trained_from_scratch(tmp_path):
    head = {"pool": "flatten", "dense": [16], "activation": "relu", "dropout": 0.5}
    given = recipe(phase(epochs=15, rate=0.003, optimiser=ADAM), batch=24, head=head, keep="last")
    network = network_of(given, architecture="JoyceCNN", alpha=None, px=16, layer="conv3")
    outcome = fit(network, given, *batch_of(px=16), tmp_path)
    assert list(network.groups) == ["conv1", "conv2", "conv3", "head"]
    assert outcome.history[-1]["loss"] < 0.5 * outcome.history[0]["loss"]
    assert network.n_features == 2 * 2 * 128


def test_means_of_the_training_tiles_replace_the_networks_own(cohort):
    from histotransfer.tables import tile_pixels

    tiles = tile_pixels.open_tiles(cohort["pixels"])
    rows = np.array([5, 3, 40])
    means = network_on_tiles.channel_means(tiles, rows)
    assert means == pytest.approx(tiles.read(rows).reshape(-1, 3).mean(axis=0), rel=1e-12)


def run(cohort, folder, given, **changes):
    training_factory.call(network_on_tiles.train_network, training_factory.arguments(cohort, folder, given, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phases": [phase(train="block_9")]}, "train: legal are all, head, block_2, .*found 'block_9'"),
        ({"phases": [phase(rates={"blok_1": 2.0})]}, "rates: legal groups are stem, .*, head; found 'blok_1'"),
        ({"phases": [phase(train="head", rates={"head": 0.0})]}, "must train something"),
        ({"phases": [phase(on="features", train="head"), phase()]}, "a head .* with a first phase .* found none"),
    ],
)
def test_recipes_that_cannot_be_are_refused_before_a_network_is_built(cohort, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        run(cohort, tmp_path, recipe(**changes))


def test_early_stopping_without_validation_tiles_is_refused(tmp_path):
    without = training_factory.write_cohort(tmp_path, validation=0)
    with pytest.raises(ValueError, match=r"recipes.tiny.early_stopping needs validation tiles.*found none"):
        run(without, tmp_path, recipe(early_stopping=2))


def test_a_class_without_training_tiles_is_refused(cohort, tmp_path):
    with pytest.raises(ValueError, match=r"each of the classes .*mucinous in train; found none of mucinous"):
        run({**cohort, "classes": [*CLASSES, "mucinous"]}, tmp_path, recipe())
    assert not list(tmp_path.glob("*.keras"))


def test_tiles_of_another_size_are_refused(cohort, tmp_path):
    with pytest.raises(ValueError, match="tiles of 40 px are needed; found 32 px"):
        run(cohort, tmp_path, recipe(crop_from=40))
