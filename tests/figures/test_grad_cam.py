"""Grad-CAM, against maps that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from histotransfer.figures import grad_cam

#: A kernel that passes red and green on as two maps, and leaves blue.
RED_AND_GREEN = np.array([[1.0, 0], [0, 1], [0, 0]], np.float32).reshape(1, 1, 3, 2)


def network(head, *, dense_trunk=False, px=2, dropout=False):
    """Return a network whose maps are the red and green values of its tiles; `head` are the layers up to the logits."""
    import keras

    tiles = keras.Input((px, px, 3), dtype="uint8")
    image = keras.Model(tiles, keras.layers.Rescaling(1.0)(tiles), name="image")
    pixels = keras.Input((px, px, 3))
    end = keras.layers.Conv2D(2, 1, use_bias=False, name="maps")(pixels)
    if dense_trunk:
        end = keras.layers.Dense(2, name="fc1")(keras.layers.Flatten()(end))
    trunk = keras.Model(pixels, end, name="trunk")
    given = keras.Input((px, px, 3), dtype="uint8")
    x = trunk(image(given))
    for layer in head:
        x = layer(x)
    model = keras.Model(given, keras.layers.Softmax(name="probability")(x))
    trunk.get_layer("maps").set_weights([RED_AND_GREEN])
    return model


def tile(red, green):
    blue = np.full_like(red, 200)
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)[None]


RED, GREEN = np.array([[8, 0], [0, 4]]), np.array([[0, 4], [0, 2]])


def test_pooled_maps_are_weighed_by_the_weights_of_the_predicted_class():
    import keras

    logits = keras.layers.Dense(3, name="logits")
    model = network([keras.layers.GlobalAveragePooling2D(name="pooling"), keras.layers.Dropout(0.9, seed=1), logits])
    logits.set_weights([np.array([[1.0, 0, -1], [-2, 0, 2]], np.float32), np.array([0, 0.5, 0], np.float32)])
    maps, predicted, probability = grad_cam.explain(model, np.concatenate([tile(RED, GREEN), tile(GREEN, RED)]))
    # red has the mean 3, green 3/2: scores 0, 1/2 and 0. The class in the middle looks at neither
    assert predicted.tolist() == [1, 2]
    assert maps[0].tolist() == [[0, 0], [0, 0]]
    # turned round, scores are 3/2 - 6, 1/2 and 6 - 3/2: of the last class dy/dA is -1/4 for red and 2/4 for green at
    # each of 4 places, and so are their means (equation 1)
    assert maps[1] == pytest.approx(np.maximum(-1 / 4 * GREEN + 2 / 4 * RED, 0))
    power = np.exp([-4.5, 0.5, 4.5])
    assert probability[1] == pytest.approx(power / power.sum())
    assert maps.dtype == np.float32


@pytest.mark.parametrize("dense_trunk", [False, True])
def test_weights_are_means_of_gradients_over_places(dense_trunk):
    import keras

    # a hidden unit for red of the left column, one for green of the right column that is not reached by ReLU
    hidden = np.zeros((2, 2, 2, 2), np.float32)
    hidden[:, 0, 0, 0], hidden[:, 1, 1, 1] = 1.0, -1.0
    hidden = hidden.reshape(8, 2)
    logits = keras.layers.Dense(2, name="logits")
    first = keras.layers.Dense(2, activation="relu", name="head_1")
    if dense_trunk:
        model = network([keras.layers.ReLU(), logits], dense_trunk=True)
        model.get_layer("trunk").get_layer("fc1").set_weights([hidden, np.zeros(2, np.float32)])
    else:
        model = network([keras.layers.Flatten(name="pooling"), first, logits])
        first.set_weights([hidden, np.zeros(2, np.float32)])
    logits.set_weights([np.array([[3.0, 0], [5, 0]], np.float32), np.zeros(2, np.float32)])
    maps, predicted, _ = grad_cam.explain(model, tile(RED, GREEN))
    # dy/dA is 3 at the two left places of red and 0 elsewhere: 6 of 4 places
    assert predicted.tolist() == [0]
    assert maps[0] == pytest.approx(6 / 4 * RED)


def test_more_tiles_than_a_batch_come_out_in_order():
    import keras

    logits = keras.layers.Dense(2, name="logits")
    model = network([keras.layers.GlobalAveragePooling2D(), keras.layers.BatchNormalization(), logits])
    logits.set_weights([np.array([[1.0, 0], [0, 1]], np.float32), np.zeros(2, np.float32)])
    before = [value.copy() for value in model.get_weights()]
    n = grad_cam.BATCH + 3
    tiles = np.concatenate([tile(RED * (k + 1), GREEN) for k in range(n)])
    maps, predicted, _ = grad_cam.explain(model, tiles)
    assert predicted.tolist() == [0] * n
    share = maps[:, 0, 0] / maps[0, 0, 0]
    assert share == pytest.approx(np.arange(1, n + 1), rel=1e-5)
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))


def test_maps_are_those_that_all_above_comes_from_and_not_one_branch():
    import keras

    image = keras.Input((4, 4, 3))
    last = keras.layers.Conv2D(2, 1, name="last")(image)
    branches = [keras.layers.MaxPooling2D(2, 1, name=f"branch_{k}")(last) for k in range(2)]
    one_place = keras.layers.MaxPooling2D(3, name="end")(keras.layers.Concatenate()(branches))
    trunk = keras.Model(image, one_place, name="trunk")
    # the concatenated maps are the deepest of more than one place
    assert grad_cam._last_maps(trunk).shape == (None, 3, 3, 4)
    ends = [
        keras.layers.GlobalMaxPooling2D(keepdims=True, name=f"end_{k}")(branch) for k, branch in enumerate(branches)
    ]
    trunk = keras.Model(image, keras.layers.Concatenate()(ends), name="trunk")
    assert grad_cam._last_maps(trunk) is last


def test_a_network_of_another_form_is_an_error():
    import keras

    tiles = keras.Input((2, 2, 3), dtype="uint8")
    with pytest.raises(ValueError, match=r"the layers trunk and logits; found flatten"):
        grad_cam.explain(keras.Model(tiles, keras.layers.Flatten(name="flatten")(tiles)), tile(RED, GREEN))
    logits = keras.layers.Dense(2, name="logits")
    model = network([keras.layers.GlobalAveragePooling2D(), logits], px=1)
    with pytest.raises(ValueError, match="a trunk with maps of more than one place; found none in trunk"):
        grad_cam.explain(model, np.zeros((1, 1, 1, 3), np.uint8))
