"""Gradients that are added up on the device, by weights and by the input; and the step that is made with them."""

from __future__ import annotations

import numpy as np
import pytest
from training_factory import ADAM, SGD, phase

from histotransfer.backends import compiled, shared
from histotransfer.definitions import Adam, Sgd
from histotransfer.training import optimisation

pytestmark = pytest.mark.backend


def linear(weights, bias):
    """Return y = x W + b, whose gradients are written down in one line."""
    import keras

    given = keras.Input((len(weights),))
    layer = keras.layers.Dense(len(bias), name="linear")
    model = keras.Model(given, layer(given))
    layer.set_weights([np.float32(weights), np.float32(bias)])
    return model


def inner_product(outputs, given):
    """The paper's L': the sum over inputs of kept . output; and the sum of the outputs beside it."""
    from keras import ops

    return ops.sum(outputs[0] * given["kept"]), ops.sum(outputs[0])


def doubled(inputs, drawn):
    from keras import ops

    return ops.cast(inputs, "float32") * ops.expand_dims(drawn["times"], -1)


def arrays(*tensors):
    return [shared.to_array(tensor) for tensor in tensors]


def test_gradients_of_two_batches_are_added_up_and_a_short_one_adds_no_more_than_it_has():
    model = linear([[1, 2], [3, 4], [0, 1]], [10, 20])
    gradients = compiled.compiled_gradients(model, objective=inner_product, prepare=doubled, batch=2)
    inputs = np.uint8([[1, 0, 2], [0, 1, 0], [5, 5, 5]])
    times, kept = np.float32([1, 2, 3]), np.float32([[1, 0], [2, -1], [0, 4]])
    total, told, by_input = gradients(gradients.zeros(), inputs[:2], {"kept": kept[:2]}, {"times": times[:2]})
    # outputs [11, 24] and [16, 28]; a kept gradient each
    assert shared.to_array(told).tolist() == [1 * 11 + 2 * 16 - 28, 11 + 24 + 16 + 28]
    assert by_input is None
    total, _, _ = gradients(total, inputs[2:], {"kept": kept[2:]}, {"times": times[2:]})
    by_weights, by_bias = arrays(*total)
    prepared = inputs * times[:, None]
    np.testing.assert_array_equal(by_weights, prepared.T @ kept)
    np.testing.assert_array_equal(by_bias, kept.sum(axis=0))


def test_the_gradient_by_the_input_is_that_of_what_was_prepared_and_of_the_batch_alone():
    model = linear([[1, 2], [3, 4]], [0, 0])
    gradients = compiled.compiled_gradients(model, objective=inner_product, prepare=doubled, batch=4, by_input=True)
    kept = np.float32([[1, 0], [2, -1], [0, 0]])
    given = {"kept": kept}
    drawn = {"times": np.full(3, 2, np.float32)}
    total, _, first = gradients(gradients.zeros(), np.ones((3, 2), np.uint8), given, drawn)
    _, _, second = gradients(total, np.ones((3, 2), np.uint8), given, drawn)
    # kept . W^T
    expected = [[1, 3], [0, 2], [0, 0]]
    assert [shared.to_array(each).tolist() for each in (first, second)] == [expected, expected]


def test_layers_are_in_inference_mode_and_keep_their_statistics():
    import keras

    given = keras.Input((1,))
    normal = keras.layers.BatchNormalization(epsilon=0.0, name="normal")
    model = keras.Model(given, keras.layers.Dropout(0.5, seed=1)(normal(given)))
    # gamma, beta, moving mean, moving variance
    normal.set_weights([np.float32([x]) for x in (3, 1, 10, 4)])
    gradients = compiled.compiled_gradients(model, objective=inner_product, batch=3, by_input=True)
    kept = {"kept": np.ones((3, 1), np.float32)}
    total, told, by_input = gradients(gradients.zeros(), np.float32([[10], [14], [18]]), kept, {})
    # (x - 10) / 2: 0, 2, 4
    assert shared.to_array(told)[0] == pytest.approx(3 * 6 + 3, rel=1e-5)
    assert [float(x[0]) for x in arrays(*total)] == pytest.approx([6, 3], rel=1e-5)
    assert shared.to_array(by_input).ravel() == pytest.approx([1.5] * 3, rel=1e-5)
    assert [float(x[0]) for x in normal.get_weights()] == [3, 1, 10, 4]


def test_inputs_of_another_size_are_another_graph_of_the_same_model():
    import keras

    given = keras.Input((None, None, 1))
    layer = keras.layers.Conv2D(1, 1, name="sum")
    model = keras.Model(given, layer(given))
    layer.set_weights([np.full((1, 1, 1, 1), 2, np.float32), np.zeros(1, np.float32)])

    def objective(outputs, given):
        from keras import ops

        return (ops.sum(outputs[0] * given["kept"]),)

    gradients = compiled.compiled_gradients(model, objective=objective, batch=1)
    total = gradients.zeros()
    for size in (2, 3, 2):
        ones = np.ones((1, size, size, 1), np.float32)
        total, told, _ = gradients(total, ones, {"kept": ones}, {})
        assert float(shared.to_array(told)[0]) == 2 * size * size
    assert [float(x.ravel()[0]) for x in arrays(*total)] == [4 + 9 + 4] * 2


def test_a_prepared_forward_pass_of_a_whole_and_a_short_batch():
    forward = compiled.compiled_prepared_forward(linear([[1], [2]], [1]), prepare=doubled, batch=3)
    inputs = np.uint8([[1, 1], [2, 0], [0, 1]])
    assert shared.to_array(forward(inputs, {"times": np.float32([1, 1, 2])})).tolist() == [[4], [3], [5]]
    assert shared.to_array(forward(inputs[1:2], {"times": np.float32([10])})).tolist() == [[21]]


@pytest.mark.parametrize("optimiser", [SGD, Sgd(momentum=0.0), ADAM])
def test_a_step_moves_weights_and_slots_as_the_formula_does_and_counts_what_it_moved(optimiser):
    import keras

    generator = np.random.default_rng(3)
    values = [generator.standard_normal(shape).astype(np.float32) for shape in ((50, 4), (4,), (300,))]
    # so small that most sums in float32 are the weights themselves
    gradients = [(generator.standard_normal(value.shape) * 1e-7).astype(np.float32) for value in values]
    own = phase(optimiser=optimiser)
    update = optimisation.update_of(own, {"below": 0.5, "above": 1.0}, ["below", "below", "above"], [2, 1, 1])
    weights = [keras.Variable(value, dtype="float32") for value in values]
    slots = [
        [keras.Variable(np.zeros_like(value), dtype="float32", trainable=False) for _ in range(update.n_slots)]
        for value in values
    ]
    move = compiled.compiled_update(weights=weights, slots=slots, update=update, groups=["below", "below", "above"])
    rate = 1e-6 if isinstance(optimiser, Adam) else 0.5
    before = values
    for step in range(2):
        given = [keras.ops.convert_to_tensor(gradient) for gradient in gradients]
        counts = shared.to_array(move(given, update.step_size(rate, step), rate))
        after = [np.array(weight.numpy()) for weight in weights]
        moved = [int((a.view(np.int32) != b.view(np.int32)).sum()) for a, b in zip(before, after, strict=True)]
        assert counts.tolist() == [moved[0] + moved[1], moved[2]]
        assert 0 < counts[0] < 204
        before = after
    if isinstance(optimiser, Sgd):
        momentum = optimiser.momentum
        first = [-rate * factor * g for factor, g in zip((0.5, 0.5, 1.0), gradients, strict=True)]
        for value, found, step in zip(values, after, first, strict=True):
            np.testing.assert_allclose(found, value + step + (momentum * step + step), rtol=0, atol=2e-7)
    if update.n_slots:
        assert all(np.abs(np.array(slot.numpy())).max() > 0 for each in slots for slot in each)


def test_a_step_of_nothing_moves_nothing():
    import keras

    weight = keras.Variable(np.ones(5, np.float32), dtype="float32")
    update = optimisation.update_of(phase(optimiser=Sgd(momentum=0.0)), {"all": 1.0}, ["all"], [1])
    move = compiled.compiled_update(weights=[weight], slots=[[]], update=update, groups=["all"])
    gradient = np.float32([0, 1e-9, 1, 2, 0])
    # 1 - 1e-9 is 1 in float32
    assert shared.to_array(move([keras.ops.convert_to_tensor(gradient)], 1.0, 1.0)).tolist() == [2]
    assert np.array(weight.numpy()).tolist() == [1, 1, 0, -1, 1]
