"""Optimisers against their formulas and against Keras' own; schedules; which groups a phase trains, at which rates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from training_factory import ADAM, RMSPROP, SGD, phase

from histotransfer.definitions import Adam, RmsProp, Sgd
from histotransfer.training import optimisation

NAMES = ["stem", "block1", "block2", "head"]


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        ("all", {"stem": 1, "block1": 1, "block2": 1, "head": 1}),
        ("head", {"head": 1}),
        ("block2", {"block2": 1, "head": 1}),
        (2, {"block1": 1, "block2": 1, "head": 1}),
    ],
)
def test_groups_that_a_phase_trains(train, expected):
    assert optimisation.group_factors(NAMES, phase(train=train)) == expected


def test_factors_of_groups_and_their_decay_with_depth():
    asked = phase(rates={"head": 10, "block1": 0.5}, layer_decay=0.8)
    expected = {"stem": 0.8**3, "block1": 0.5 * 0.8**2, "block2": 0.8, "head": 10}
    assert optimisation.group_factors(NAMES, asked) == pytest.approx(expected)


def test_a_factor_of_zero_leaves_a_group_as_it_is():
    assert optimisation.group_factors(NAMES, phase(rates={"block1": 0})) == {"stem": 1, "block2": 1, "head": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": "block9"}, r"train: legal are all, head, block2, block1, stem, .* up to 3; found 'block9'"),
        ({"train": 4}, r"a number of blocks up to 3; found 4"),
        ({"rates": {"block9": 2}}, r"rates: legal groups are stem, block1, block2, head; found 'block9'"),
        ({"epochs": 0}, "must train something.*found epochs 0"),
        ({"rate": 0.0}, "must train something.*rate 0 "),
        ({"train": "head", "rates": {"head": 0}}, "must train something.*factors head 0$"),
    ],
)
def test_bad_phases_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        optimisation.group_factors(NAMES, phase(**changes))


def test_constant_rate():
    assert [optimisation.rate_at(phase(rate=0.3), step, 5) for step in (0, 99)] == [0.3, 0.3]


def test_inv_is_caffes():
    asked = phase(rate=0.001, schedule={"kind": "inv", "gamma": 0.001, "power": 0.75})
    assert optimisation.rate_at(asked, 0, 170) == 0.001
    # after one epoch of Bayramoglu and Heikkila's nuclei: 0.001 * 1.17 ** -0.75
    assert optimisation.rate_at(asked, 170, 170) == pytest.approx(0.000888916, rel=1e-6)
    assert optimisation.rate_at(asked, 1000, 170) == pytest.approx(0.001 / 2**0.75)


def test_cosine_with_warm_up():
    asked = phase(rate=0.2, epochs=3, schedule={"kind": "cosine", "warm_up": 0.5, "floor": 0.1})
    found = [optimisation.rate_at(asked, step, 4) for step in range(12)]
    # two steps up, ten down from the rate itself; half way between 0.2 and 0.02 after five of them
    assert found[:3] == pytest.approx([0.1, 0.2, 0.2])
    assert found[7] == pytest.approx(0.11)
    assert found[11] == pytest.approx(0.02 + 0.18 * (1 + math.cos(math.pi * 0.9)) / 2)
    assert sorted(found[2:], reverse=True) == found[2:]


def test_an_unknown_schedule_is_refused():
    with pytest.raises(TypeError, match="kind: legal are constant, inv, cosine; found 'step'"):
        phase(schedule={"kind": "step"})


OPTIMISERS = {
    "sgd": Sgd(momentum=0.0),
    "momentum": SGD,
    "nesterov": Sgd(nesterov=True),
    "adam": ADAM,
    "mormont": Adam(beta_1=0.99),
    "rmsprop": RMSPROP,
    "rmsprop-momentum": RmsProp(rho=0.8, momentum=0.5, epsilon=1e-3),
}


def moved(optimiser, weight, gradients, rate, **changes):
    """Return a weight after one step for each of the gradients, by the update under test."""
    import keras

    asked = phase(optimiser=optimiser, rate=rate, **changes)
    update = optimisation.update_of(asked, {"head": 1.0}, ["head"], [weight.ndim])
    weights = [keras.ops.convert_to_tensor(weight)]
    slots = [[keras.ops.zeros(weight.shape) for _ in range(update.n_slots)]]
    for step, gradient in enumerate(gradients):
        size = keras.ops.convert_to_tensor(np.float32(update.step_size(rate, step)))
        given = [keras.ops.convert_to_tensor(gradient)]
        weights, slots = update(weights, given, slots, size, keras.ops.convert_to_tensor(np.float32(rate)))
    return keras.ops.convert_to_numpy(weights[0])


@pytest.mark.backend
@pytest.mark.parametrize("name", OPTIMISERS)
def test_updates_are_those_of_keras(name):
    import keras

    constants = {key: value for key, value in vars(OPTIMISERS[name]).items() if key != "kind"}
    kind = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam, "rmsprop": keras.optimizers.RMSprop}
    reference = kind[OPTIMISERS[name].kind](0.05, **constants)
    generator = np.random.default_rng(1)
    weight = generator.standard_normal((3, 4)).astype(np.float32)
    gradients = generator.standard_normal((5, 3, 4)).astype(np.float32)
    variable = keras.Variable(weight)
    for gradient in gradients:
        reference.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    expected = keras.ops.convert_to_numpy(variable.value)
    np.testing.assert_allclose(moved(OPTIMISERS[name], weight, gradients, 0.05), expected, rtol=2e-5, atol=1e-6)


def test_two_steps_of_momentum_by_hand():
    # v = -0.1 * 1; w = 2 - 0.1; v = 0.9 * -0.1 - 0.1 * 3 = -0.39; w = 1.9 - 0.39
    found = moved(SGD, np.float32([2.0]), np.float32([[1.0], [3.0]]), 0.1)
    assert found == pytest.approx([1.51])


def test_the_first_step_of_adam_has_the_size_of_the_rate():
    found = moved(ADAM, np.float32([2.0, 2.0]), np.float32([[0.5, -50.0]]), 0.1)
    assert found == pytest.approx([1.9, 2.1], rel=1e-4)


def test_weights_decay_and_biases_do_not():
    kernel, bias = np.float32([[2.0]]), np.float32([2.0])
    # 2 - 0.1 * 0.5 * 2 and nothing from a gradient of 0
    sgd = OPTIMISERS["sgd"]
    assert moved(sgd, kernel, np.float32([[[0.0]]]), 0.1, weight_decay=0.5) == pytest.approx(np.float32([[1.9]]))
    assert moved(sgd, bias, np.float32([[0.0]]), 0.1, weight_decay=0.5) == pytest.approx([2.0])


def test_an_unknown_optimiser_is_refused():
    with pytest.raises(TypeError, match="kind: legal are sgd, adam, rmsprop; found 'lion'"):
        phase(optimiser={"kind": "lion"})


def test_the_scale_of_the_loss_is_halved_on_overflow_and_doubled_after_many_good_steps():
    import keras

    def after(scale, finite):
        found = optimisation.rescaled(
            keras.ops.convert_to_tensor(np.float32(scale)), keras.ops.convert_to_tensor(finite)
        )
        return keras.ops.convert_to_numpy(found).tolist()

    assert after([1024, 7], True) == [1024, 8]
    assert after([1024, 7], False) == [512, 0]
    assert after([1024, optimisation.STEPS_TO_DOUBLE - 1], True) == [2048, 0]
    assert after([1, 0], False) == [1, 0]
