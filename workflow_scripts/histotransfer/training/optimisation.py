"""How weights move: optimisers, schedules of the rate, and a rate of its own for every group of layers.

The updates are pure functions of arrays, written with ``keras.ops`` alone: the same on every backend, and short enough
to be compared by hand. Importing this module imports no Keras, so a recipe can be checked while a workflow is planned.

What comes in is a phase of a recipe, with every key filled in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from histotransfer.networks.groups import trained_groups

#: Legal kinds of optimisers and of schedules.
OPTIMISERS = ("sgd", "adam", "rmsprop")
SCHEDULES = ("constant", "inv", "cosine")

#: Loss scaling in float16: where it begins, how many good steps double it, and its least value.
FIRST_SCALE, STEPS_TO_DOUBLE, LEAST_SCALE = 2.0**15, 2000, 1.0


def group_factors(names: Sequence[str], phase: Mapping[str, Any]) -> dict[str, float]:
    """Return what the rate is multiplied by in each group that a phase trains.

    Parameters
    ----------
    names : sequence of str
        All groups by depth; the last is the head.
    phase : mapping
        ``train`` (see :func:`recipes.trained_groups`), ``rate``, ``rates`` (factors by group, others 1),
        ``layer_decay`` (the group k below the head has its factor times ``layer_decay ** k``), ``epochs``.

    Returns
    -------
    dict of str to float
        By depth, of those groups alone that are trained: a factor of 0 leaves a group as it is.

    Raises
    ------
    ValueError
        If there is no group that `train` or `rates` names, or nothing would be trained.

    Notes
    -----
    Rates that fall from the head to the first layers: Howard, J. and Ruder, S. (2018), "Universal language model
    fine-tuning for text classification", section 3.2, equation 2 (there 1 / 2.6 a layer).
    """
    names = list(names)
    trained = trained_groups(phase["train"], names)
    if not trained:
        raise ValueError(
            f"train: legal are all, {', '.join(reversed(names))}, or a number of blocks up to {len(names) - 1}; found "
            f"{phase['train']!r}"
        )
    rates = phase.get("rates") or {}
    for name in rates:
        if name not in names:
            raise ValueError(f"rates: legal groups are {', '.join(names)}; found {name!r}")
    decay = phase.get("layer_decay")
    decay = 1.0 if decay is None else float(decay)
    last = len(names) - 1
    factors = {name: float(rates.get(name, 1.0)) * decay ** (last - names.index(name)) for name in trained}
    if phase["epochs"] < 1 or not phase["rate"] * max(factors.values()) > 0:
        raise ValueError(
            "a phase must train something: its epochs, its rate and a group's factor must be above 0; found epochs "
            f"{phase['epochs']}, rate {phase['rate']:g} and factors "
            + ", ".join(f"{name} {factor:g}" for name, factor in factors.items())
        )
    return {name: factor for name, factor in factors.items() if factor > 0}


def rate_at(phase: Mapping[str, Any], step: int, steps_per_epoch: int) -> float:
    """Return the rate of a step, before factors of groups.

    Parameters
    ----------
    phase : mapping
        ``rate``, ``epochs`` and ``schedule``: ``constant``; ``inv`` with ``gamma`` and ``power``; ``cosine`` with
        ``warm_up`` (epochs) and ``floor`` (share of the rate).
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
    - cosine: with w steps of warm-up and n in all, ``rate * (step + 1) / w`` for the first w (Goyal et al. 2017,
      section 2.2), then ``rate * (floor + (1 - floor) * (1 + cos(pi * (step - w) / (n - w))) / 2)`` (Loshchilov and
      Hutter 2017, "SGDR: stochastic gradient descent with warm restarts", equation 5, without restarts).
    """
    rate, schedule = float(phase["rate"]), phase["schedule"]
    kind = schedule["kind"]
    if kind == "constant":
        return rate
    if kind == "inv":
        return rate * (1 + schedule["gamma"] * step) ** -schedule["power"]
    if kind == "cosine":
        n = phase["epochs"] * steps_per_epoch
        warm = round(schedule.get("warm_up", 0.0) * steps_per_epoch)
        if step < warm:
            return rate * (step + 1) / warm
        floor = schedule.get("floor", 0.0)
        return rate * (floor + (1 - floor) * (1 + math.cos(math.pi * (step - warm) / (n - warm))) / 2)
    raise ValueError(f"a schedule's kind must be one of {', '.join(SCHEDULES)}; found {kind!r}")


@dataclass(frozen=True)
class Update:
    """One optimiser on a list of weights, each with a rate of its own.

    Attributes
    ----------
    optimiser : mapping
        ``kind`` and its constants.
    factors : tuple of float
        What the rate is multiplied by, weight by weight.
    decays : tuple of bool
        Whether `weight_decay` works on a weight.
    weight_decay : float
        Share of itself, times its rate, that a weight loses at each step.
    """

    optimiser: Mapping[str, Any]
    factors: tuple[float, ...]
    decays: tuple[bool, ...]
    weight_decay: float = 0.0

    @property
    def n_slots(self) -> int:
        """How many arrays of its own shape each weight needs: momentum and the like. They begin at 0."""
        kind = self.optimiser["kind"]
        if kind == "sgd":
            return int(self.optimiser["momentum"] > 0)
        if kind == "adam":
            return 2
        if kind == "rmsprop":
            return 1 + int(self.optimiser["momentum"] > 0)
        raise ValueError(f"an optimiser's kind must be one of {', '.join(OPTIMISERS)}; found {kind!r}")

    def step_size(self, rate: float, step: int) -> float:
        """Return what a step multiplies its direction by: the rate, for Adam with the correction of its averages.

        Parameters
        ----------
        rate : float
        step : int
            Steps of the phase that were made before this one.
        """
        if self.optimiser["kind"] != "adam":
            return rate
        n = step + 1
        return rate * math.sqrt(1 - self.optimiser["beta_2"] ** n) / (1 - self.optimiser["beta_1"] ** n)

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

        constants = self.optimiser
        kind = constants["kind"]
        if kind == "sgd":
            step = -size * gradient
            momentum = constants["momentum"]
            if not momentum:
                return step, []
            velocity = momentum * slots[0] + step
            return (momentum * velocity + step if constants.get("nesterov") else velocity), [velocity]
        if kind == "adam":
            beta_1, beta_2 = constants["beta_1"], constants["beta_2"]
            first = beta_1 * slots[0] + (1 - beta_1) * gradient
            second = beta_2 * slots[1] + (1 - beta_2) * ops.square(gradient)
            return -size * first / (ops.sqrt(second) + constants["epsilon"]), [first, second]
        rho, momentum = constants["rho"], constants["momentum"]
        second = rho * slots[0] + (1 - rho) * ops.square(gradient)
        step = -size * gradient * ops.rsqrt(second + constants["epsilon"])
        if not momentum:
            return step, [second]
        velocity = momentum * slots[1] + step
        return velocity, [second, velocity]


def update_of(
    phase: Mapping[str, Any], factors: Mapping[str, float], groups: Sequence[str], dimensions: Sequence[int]
) -> Update:
    """Return the update of a phase.

    Parameters
    ----------
    phase : mapping
        ``optimiser`` and ``weight_decay``.
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
        optimiser=phase["optimiser"],
        factors=tuple(factors[name] for name in groups),
        decays=tuple(n > 1 for n in dimensions),
        weight_decay=float(phase.get("weight_decay") or 0.0),
    )


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
