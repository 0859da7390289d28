"""The U-Net: its shape and weights, and a loss that cells without a label have no part in."""

from __future__ import annotations

import numpy as np
import pytest
from training_factory import phase

from histotransfer.backends import compiled
from histotransfer.definitions import Sgd
from histotransfer.segmentation import unet
from histotransfer.training import optimisation

N_FEATURES, N_CLASSES = 3, 2


def build(**changes):
    return unet.build_unet(
        **{"n_features": N_FEATURES, "n_classes": N_CLASSES, "filters": 4, "depth": 2, "seed": 1, **changes}
    )


def maps(n=2, size=8, seed=0):
    return np.random.default_rng(seed).standard_normal((n, size, size, N_FEATURES)).astype(np.float32)


def label_maps(n=2, size=8, seed=1):
    """Return labels of a third of the cells; -1 on the others."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, N_CLASSES, (n, size, size)).astype(np.int32)
    labels[generator.random(labels.shape) < 2 / 3] = -1
    return labels


def loss_of(logits, labels):
    from keras import ops

    found = unet.cell_loss(ops.convert_to_tensor(logits), ops.convert_to_tensor(labels))
    return [float(ops.convert_to_numpy(value)) for value in found]


def stepped(network, inputs, labels):
    """Make one step of descent at rate 1, so that weights fall by their gradients; return them and the tally."""
    import keras

    weights = list(network.trainable_variables)
    update = optimisation.update_of(
        phase(optimiser=Sgd(momentum=0.0)), {"unet": 1.0}, ["unet"] * len(weights), [2] * len(weights)
    )
    step = compiled.compiled_train_step(
        network,
        weights=weights,
        slots=[[] for _ in weights],
        scale=keras.Variable(np.ones(2, np.float32), trainable=False, dtype="float32"),
        prepare=lambda maps, drawn: maps,
        loss=unet.step_loss,
        update=update,
    )
    step(inputs, labels, {}, number=1, size=1.0, rate=1.0)
    tally = step.tally()
    step.settle()
    return [np.array(weight.numpy()) for weight in weights], tally


@pytest.mark.backend
@pytest.mark.parametrize(("height", "width"), [(8, 8), (4, 12), (16, 8)])
def test_every_cell_of_a_map_of_any_size_has_logits(height, width):
    network = build()
    forward = compiled.compiled_forward(network, 0, batch=2)
    [logits] = forward(np.zeros((2, height, width, N_FEATURES), np.float32))
    assert logits.shape == (2, height, width, N_CLASSES)
    assert logits.dtype == np.float32
    assert network.name == "unet"


def test_levels_double_their_filters_and_weights_are_counted_by_hand():
    network = build(filters=4, depth=1)
    # down: 3x3x3x4+4, 3x3x4x4+4; bottom: 3x3x4x8+8, 3x3x8x8+8; up: 2x2x8x4+4, 3x3x8x4+4, 3x3x4x4+4; out: 4x2+2
    assert network.count_params() == 112 + 148 + 296 + 584 + 132 + 292 + 148 + 10
    assert not [layer for layer in network.layers if "normalization" in layer.name or "dropout" in layer.name]


def test_weights_have_the_deviation_of_their_inputs_and_depend_on_the_seed_alone():
    network = build(filters=32, depth=2, seed=5)
    for name, inputs in (
        ("down_1_conv_2", 9 * 64),
        ("bottom_2_conv_1", 9 * 64),
        ("up_1", 128),
        ("up_0_conv_1", 9 * 64),
    ):
        kernel, bias = network.get_layer(name).get_weights()
        assert kernel.std() == pytest.approx(np.sqrt(2 / inputs), rel=0.03), name
        assert not bias.any()
    again, other = build(filters=32, depth=2, seed=5), build(filters=32, depth=2, seed=6)
    same = [
        (a == b).all() and not (a == c).all()
        for a, b, c in zip(network.get_weights(), again.get_weights(), other.get_weights(), strict=True)
        if a.ndim > 1
    ]
    assert same
    assert all(same)


def test_what_can_be_halved():
    assert [
        unet.multiple(3),
        unet.multiple(3, 2),
        unet.multiple(3, 32),
        unet.multiple(2, 12),
        unet.multiple(4, 12),
    ] == [
        *(8, 4, 1, 1),
        4,
    ]


def test_logits_of_a_pictures_pixels_are_averaged_over_each_cell():
    import keras

    network = build(cell_px=4)
    pixels = keras.Model(network.inputs, network.get_layer("logits").output)
    picture = maps(1, 12)
    [found] = compiled.compiled_forward(network, 0)(picture)
    assert found.shape == (1, 3, 3, N_CLASSES)
    [logits] = compiled.compiled_forward(pixels, 0)(picture)
    by_hand = logits.reshape(1, 3, 4, 3, 4, N_CLASSES).mean(axis=(2, 4))
    np.testing.assert_allclose(found, by_hand, rtol=1e-5, atol=1e-6)


@pytest.mark.backend
def test_the_loss_is_the_mean_over_labelled_cells():
    # probabilities of the true classes 3/4, 1/2 and 1/8; two cells without a label
    logits = np.log(np.float32([[[[1, 3], [4, 4], [7, 1]], [[9, 1], [1, 9], [1, 7]]]]))
    labels = np.int32([[[1, 0, -1], [-1, -1, 0]]])
    mean, total, correct, n = loss_of(logits, labels)
    assert total == pytest.approx(-np.log(3 / 4 * 1 / 2 * 1 / 8), rel=1e-5)
    assert mean == pytest.approx(total / 3, rel=1e-6)
    # of equals the first is predicted
    assert (correct, n) == (2, 3)


@pytest.mark.backend
def test_without_any_label_there_is_no_loss_and_no_gradient():
    assert loss_of(np.float32([[[[1, 3], [4, 4]]]]), np.int32([[[-1, -1]]])) == [0, 0, 0, 0]
    network = build()
    before = [np.array(weight.numpy()) for weight in network.trainable_variables]
    after, tally = stepped(network, maps(), np.full((2, 8, 8), -1, np.int32))
    assert all((a == b).all() for a, b in zip(before, after, strict=True))
    assert tally.tolist() == [0, 0, 2, 0]


@pytest.mark.backend
def test_what_is_under_cells_without_a_label_changes_no_loss_and_no_gradient():
    labels = label_maps()
    bare = labels < 0
    inputs = maps()
    expected, tally = stepped(build(), inputs, labels)
    # another class under the mark, or another mark
    other = np.where(bare, (np.arange(bare.size).reshape(bare.shape) % N_CLASSES).astype(np.int32), labels)
    for changed in (np.where(bare, -1, other), np.where(bare, -2 - other, labels)):
        found, counted = stepped(build(), inputs, changed.astype(np.int32))
        assert counted.tolist() == tally.tolist()
        assert all(a.tobytes() == b.tobytes() for a, b in zip(found, expected, strict=True))
    # and the label of a cell that has one does
    labelled = tuple(np.argwhere(~bare)[0])
    other = labels.copy()
    other[labelled] = 1 - other[labelled]
    found, counted = stepped(build(), inputs, other)
    assert counted[0] != tally[0]
    assert not all((a == b).all() for a, b in zip(found, expected, strict=True))


@pytest.mark.backend
def test_no_gradient_reaches_the_logits_of_cells_without_a_label():
    import keras

    # a network that is nothing but its logits: one weight a cell and class
    class Cells(keras.layers.Layer):
        def build(self, shape):
            self.logits = self.add_weight(shape=(1, 4, 4, N_CLASSES), initializer="zeros", name="logits")

        def call(self, x):
            return self.logits + 0.0 * keras.ops.mean(x)

    given = keras.Input((4, 4, 1))
    network = keras.Model(given, Cells()(given))
    labels = label_maps(1, 4)
    [moved], _ = stepped(network, np.zeros((1, 4, 4, 1), np.float32), labels)
    expected = np.zeros((1, 4, 4, N_CLASSES))
    for place in np.argwhere(labels >= 0):
        # both classes are at 1/2: the true one rises by half over the number of labelled cells, the other falls
        expected[tuple(place)] = -0.5
        expected[(*place, labels[tuple(place)])] = 0.5
    np.testing.assert_allclose(moved, expected / (labels >= 0).sum(), atol=1e-7)


@pytest.mark.backend
def test_a_step_tells_the_sum_over_labelled_cells():
    network = build()
    _, tally = stepped(network, maps(), label_maps())
    [logits] = compiled.compiled_forward(build(), 0, batch=2)(maps())
    _, total, correct, _ = loss_of(logits, label_maps())
    assert tally[0] == pytest.approx(total, rel=1e-5)
    assert tally[1] == correct


@pytest.mark.parametrize("name", ["filters", "depth", "cell_px"])
def test_numbers_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"a U-Net's {name} must be 1 or more; found 0"):
        build(**{name: 0})
