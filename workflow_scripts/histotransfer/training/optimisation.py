"""How weights move: optimisers, schedules of the learning rate, and a rate of its own for every group of layers.

The updates are pure functions of arrays, written with ``keras.ops`` alone: the same on every backend, and short enough
to be compared by hand. Importing this module imports no Keras.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from histotransfer.definitions import Adam, Constant, Inverse, Phase, RmsProp, Sgd
from histotransfer.networks.groups import trained_groups

#: Loss scaling in float16: where it begins, how many good steps double it, and its least value.
FIRST_SCALE, STEPS_TO_DOUBLE, LEAST_SCALE = 2.0**15, 2000, 1.0


def group_factors(names: Sequence[str], phase: Phase) -> dict[str, float]:
    """Return what the rate is multiplied by in each group that a phase trains.

    Parameters
    ----------
    names : sequence of str
        All groups by depth; the last is the head.
    phase : Phase
        A group that ``rates`` does not name has the factor 1; the group k below the head has its factor times
        ``layer_decay ** k``.

    Returns
    -------
    dict of str to float
        Factors above 0 of the groups that are trained, by depth. A group with the factor 0 keeps its weights and is
        left out.

    Raises
    ------
    ValueError
        If ``train`` or ``rates`` names a group that is not in `names`, or nothing would be trained.

    Notes
    -----
    Rates that fall from the head to the first layers: Howard, J. and Ruder, S. (2018), "Universal language model
    fine-tuning for text classification", section 3.2, equation 2 (there 1 / 2.6 a layer).
    """
    names = list(names)
    trained = trained_groups(phase.train, names)
    if not trained:
        raise ValueError(
            f"train: legal are all, {', '.join(reversed(names))}, or a number of blocks up to {len(names) - 1}; found "
            f"{phase.train!r}"
        )
    for name in phase.rates:
        if name not in names:
            raise ValueError(f"rates: legal groups are {', '.join(names)}; found {name!r}")
    decay = 1.0 if phase.layer_decay is None else float(phase.layer_decay)
    last = len(names) - 1
    factors = {name: float(phase.rates.get(name, 1.0)) * decay ** (last - names.index(name)) for name in trained}
    if phase.epochs < 1 or not phase.rate * max(factors.values()) > 0:
        raise ValueError(
            "a phase must train something: its epochs, its rate and a group's factor must be above 0; found epochs "
            f"{phase.epochs}, rate {phase.rate:g} and factors "
            + ", ".join(f"{name} {factor:g}" for name, factor in factors.items())
        )
    return {name: factor for name, factor in factors.items() if factor > 0}


def rate_at(phase: Phase, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of a step, before the factors of groups.

    Parameters
    ----------
    phase : Phase
    step : int
        Steps of the phase that were made before this one.
    steps_per_epoch : int

    Returns
    -------
    float

    Notes
    -----
    - inv: ``rate * (1 + gamma * step) ** -power``, as Caffe has it. ASSUME the minus sign, which the exponent of
      Bayramoglu and Heikkilä (2016) lacks in print: the text says that the rate decreases.
    - cosine: with w steps of warm-up (``warm_up`` epochs) and n in all, ``rate * (step + 1) / w`` for the first w
      (Goyal et al. 2017, section 2.2), then
      ``rate * (floor + (1 - floor) * (1 + cos(pi * (step - w) / (n - w))) / 2)`` (Loshchilov and Hutter 2017, "SGDR:
      stochastic gradient descent with warm restarts", equation 5, without restarts).
    """
    rate, schedule = float(phase.rate), phase.schedule
    if isinstance(schedule, Constant):
        return rate
    if isinstance(schedule, Inverse):
        return rate * (1 + schedule.gamma * step) ** -schedule.power
    n = phase.epochs * steps_per_epoch
    warm = round(schedule.warm_up * steps_per_epoch)
    if step < warm:
        return rate * (step + 1) / warm
    floor = schedule.floor
    return rate * (floor + (1 - floor) * (1 + math.cos(math.pi * (step - warm) / (n - warm))) / 2)


@dataclass(frozen=True)
class Update:
    """One optimiser on a list of weights, each with a rate of its own.

    Attributes
    ----------
    optimiser : Sgd, Adam or RmsProp
    factors : tuple of float
        What the rate is multiplied by, weight by weight.
    decays : tuple of bool
        Whether `weight_decay` works on a weight.
    weight_decay : float
        Share of itself, times its rate, that a weight loses at each step.
    """

    optimiser: Sgd | Adam | RmsProp
    factors: tuple[float, ...]
    decays: tuple[bool, ...]
    weight_decay: float = 0.0

    @property
    def n_slots(self) -> int:
        """How many arrays of its own shape each weight needs: momentum and the like. They begin at 0."""
        if isinstance(self.optimiser, Adam):
            return 2
        return int(isinstance(self.optimiser, RmsProp)) + int(self.optimiser.momentum > 0)

    def step_size(self, rate: float, step: int) -> float:
        """Return what a step multiplies its direction by: the rate, for Adam with the correction of its averages.

        Parameters
        ----------
        rate : float
        step : int
            Steps of the phase that were made before this one.
        """
        if not isinstance(self.optimiser, Adam):
            return rate
        n = step + 1
        return rate * math.sqrt(1 - self.optimiser.beta_2**n) / (1 - self.optimiser.beta_1**n)

    def __call__(
        self, weights: Sequence[Any], gradients: Sequence[Any], slots: Sequence[Sequence[Any]], size: Any, rate: Any
    ) -> tuple[list[Any], list[list[Any]]]:
        """Return the weights after one step, and their slots.

        Parameters
        ----------
        weights, gradients : sequences of tensors
        slots : sequence of sequences of tensors
            :attr:`n_slots` for each weight.
        size : scalar tensor
            :meth:`step_size`.
        rate : scalar tensor
            The rate itself, which the decay of weights goes by.

        Notes
        -----
        - sgd: ``v = momentum * v - rate * g; w = w + v``; Nesterov's: ``w = w + momentum * v - rate * g`` with the new
          v (Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning", equations 1
          to 4). As in Caffe and Keras, v has the rate in it.
        - adam: Kingma and Ba (2015), "Adam: a method for stochastic optimization", in the form at the end of section
          2, where epsilon is added to the root before its correction, as in Keras.
        - rmsprop: Tieleman and Hinton (2012), ``m = rho * m + (1 - rho) * g^2; w = w - rate * g / sqrt(m + epsilon)``.
        - Decay of weights stands apart from the gradient: ``w = w - rate * weight_decay * w`` first (Loshchilov and
          Hutter 2019, "Decoupled weight decay regularization").
        """
        moved, kept = [], []
        for weight, gradient, own, factor, decays in zip(
            weights, gradients, slots, self.factors, self.decays, strict=True
        ):
            if self.weight_decay and decays:
                weight = weight - (rate * (factor * self.weight_decay)) * weight
            change, new = self._change(gradient, own, size * factor)
            moved.append(weight + change)
            kept.append(new)
        return moved, kept

    def _change(self, gradient: Any, slots: Sequence[Any], size: Any) -> tuple[Any, list[Any]]:
        from keras import ops

        how = self.optimiser
        if isinstance(how, Sgd):
            step = -size * gradient
            if not how.momentum:
                return step, []
            velocity = how.momentum * slots[0] + step
            return (how.momentum * velocity + step if how.nesterov else velocity), [velocity]
        if isinstance(how, Adam):
            first = how.beta_1 * slots[0] + (1 - how.beta_1) * gradient
            second = how.beta_2 * slots[1] + (1 - how.beta_2) * ops.square(gradient)
            return -size * first / (ops.sqrt(second) + how.epsilon), [first, second]
        second = how.rho * slots[0] + (1 - how.rho) * ops.square(gradient)
        step = -size * gradient * ops.rsqrt(second + how.epsilon)
        if not how.momentum:
            return step, [second]
        velocity = how.momentum * slots[1] + step
        return velocity, [second, velocity]


def update_of(phase: Phase, factors: Mapping[str, float], groups: Sequence[str], dimensions: Sequence[int]) -> Update:
    """Return the update of a phase.

    Parameters
    ----------
    phase : Phase
    factors : mapping of str to float
        By group: :func:`group_factors`.
    groups : sequence of str
        The group of each weight that is trained.
    dimensions : sequence of int
        How many axes each weight has.

    Returns
    -------
    Update
    """
    # ASSUME weights decay and biases, scales and shifts do not: Caffe's own networks have it so (decay_mult 0)
    return Update(
        optimiser=phase.optimiser,
        factors=tuple(factors[name] for name in groups),
        decays=tuple(n > 1 for n in dimensions),
        weight_decay=float(phase.weight_decay or 0.0),
    )


@dataclass(frozen=True)
class PhaseWeights:
    """The weights that a phase trains, and what its optimiser keeps for them.

    Attributes
    ----------
    weights : list of keras.Variable
    groups : list of str
        The group of each weight.
    update : Update
    slots : list of lists of keras.Variable
        Of each weight, its :attr:`Update.n_slots` arrays.
    scale : keras.Variable of float32, shape (2,)
        The scale of the loss: see :func:`rescaled`.
    """

    weights: list[Any]
    groups: list[str]
    update: Update
    slots: list[list[Any]]
    scale: Any

    @property
    def of_optimiser(self) -> list[Any]:
        """The optimiser's variables in the order of a checkpoint: the slots weight by weight, then the scale."""
        return [*(slot for slots in self.slots for slot in slots), self.scale]


def phase_weights(
    network: Any, groups: Mapping[str, Sequence[Any]], *, phase: Phase, factors: Mapping[str, float], name: str
) -> PhaseWeights:
    """Let a phase train its groups of layers and no others.

    Parameters
    ----------
    network : keras.Model
        Of these layers; which of them are trained is set.
    groups : dict of str to list of keras.Layer
        By depth, the head last.
    phase : Phase
    factors : mapping of str to float
        By group: :func:`group_factors`.
    name : str
        The network's, for messages.

    Returns
    -------
    PhaseWeights
        With slots of zeros and the first scale.

    Raises
    ------
    ValueError
        If there is nothing to train, or a weight belongs to no group.
    """
    import keras

    group_of = {}
    for group, layers in groups.items():
        for layer in layers:
            layer.trainable = group in factors
            group_of |= {id(variable): group for variable in layer.trainable_variables}
    weights = list(network.trainable_variables)
    strays = [variable.path for variable in weights if id(variable) not in group_of]
    if strays or not weights:
        raise ValueError(
            f"{name}: every weight that is trained belongs to one of the groups {', '.join(factors)}, and there must "
            f"be some; found {', '.join(strays) or 'no weights'}"
        )

    def variable(values: np.ndarray) -> Any:
        return keras.Variable(values.astype(np.float32), trainable=False, dtype="float32")

    of_weights = [group_of[id(weight)] for weight in weights]
    update = update_of(phase, factors, of_weights, [len(weight.shape) for weight in weights])
    # ASSUME every phase begins with a fresh optimiser, as training anew with Keras does
    slots = [[variable(np.zeros(weight.shape)) for _ in range(update.n_slots)] for weight in weights]
    return PhaseWeights(weights, of_weights, update, slots, variable(np.array([FIRST_SCALE, 0.0])))


def rescaled(scale: Any, finite: Any) -> Any:
    """Return the scale of the loss after a step: halved where a gradient overflowed, doubled after many that did not.

    Parameters
    ----------
    scale : tensor of shape (2,)
        The scale, and how many steps in a row were good.
    finite : boolean scalar tensor
        Whether every gradient of the step was finite.

    Notes
    -----
    Micikevicius, P. et al. (2018), "Mixed precision training", section 3.2.
    """
    from keras import ops

    value, good = scale[0], scale[1] + 1.0
    doubles = good >= STEPS_TO_DOUBLE
    grown = ops.stack([ops.where(doubles, value * 2.0, value), ops.where(doubles, 0.0 * good, good)])
    halved = ops.stack([ops.maximum(value * 0.5, LEAST_SCALE + 0.0 * value), 0.0 * good])
    return ops.where(finite, grown, halved)
