"""What the backends' steps and gradients have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np


def listed(outputs: Any) -> list[Any]:
    """Return the outputs of a model, which may have one or several, as a list."""
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def settled(
    gradients: list[Any],
    state: tuple[list[Any], list[list[Any]], Any, Any],
    counted: tuple[Any, Any, Any, Any, Any],
    size: Any,
    rate: Any,
    update: Callable[..., Any],
    rescaled: Callable[..., Any] | None,
) -> tuple[list[Any], list[list[Any]], Any, Any]:
    """Return weights, slots, scale and tally after a step, by pure functions of tensors.

    Parameters
    ----------
    gradients : list of tensors
    state : tuple
        Weights, slots, scale and tally before the step.
    counted : tuple
        Objective (not scaled), loss, tiles predicted correctly, tiles, number of the step.
    """
    from keras import ops

    weights, slots, scale, tally = state
    objective, loss, correct, n, number = counted
    if rescaled is None:
        moved, kept = update(weights, gradients, slots, size, rate)
    else:
        gradients = [gradient / scale[0] for gradient in gradients]
        # one sum is not finite where any number of it is not
        finite = ops.isfinite(sum(ops.sum(ops.abs(gradient)) for gradient in gradients))
        moved, kept = update(weights, gradients, slots, size, rate)
        moved = [ops.where(finite, new, old) for new, old in zip(moved, weights, strict=True)]
        kept = [
            [ops.where(finite, new, old) for new, old in zip(after, before, strict=True)]
            for after, before in zip(kept, slots, strict=True)
        ]
        scale = rescaled(scale, finite)
    first = tally[3]
    bad = ops.logical_and(ops.equal(first, 0.0), ops.logical_not(ops.isfinite(objective)))
    tally = ops.stack([tally[0] + loss * n, tally[1] + correct, tally[2] + n, ops.where(bad, number, first)])
    return moved, kept, scale, tally


class Step:
    """What the steps of all backends share."""

    def __init__(
        self,
        model: Any,
        weights: list[Any],
        slots: list[list[Any]],
        scale: Any,
        tally: Any,
        prepare: Callable[..., Any],
        loss: Callable[..., Any],
        update: Callable[..., Any],
        rescaled: Callable[..., Any] | None,
    ) -> None:
        self._model, self._weights, self._slots, self._scale, self._tally = model, weights, slots, scale, tally
        self._prepare, self._loss, self._update, self._rescaled = prepare, loss, update, rescaled

    def tally(self) -> np.ndarray:
        counted = np.array(self._tally.numpy(), np.float32)
        self._tally.assign(np.zeros(4, np.float32))
        return counted

    def settle(self) -> None:
        """Do nothing: where this is not overridden, a step moves the variables of Keras themselves."""

    def _objective(self, outputs: Any, labels: Any, scale: Any) -> tuple[Any, tuple[Any, Any, Any]]:
        """Return what is differentiated; and the objective, the loss and how many tiles are predicted correctly."""
        counted = self._loss(listed(outputs), labels)
        return (counted[0] if self._rescaled is None else counted[0] * scale[0]), counted

    def _assign(self, state: tuple[list[Any], list[list[Any]], Any, Any]) -> None:
        moved, kept, scale, tally = state
        assign(self._weights, self._slots, moved, kept)
        if self._rescaled is not None:
            self._scale.assign(scale)
        self._tally.assign(tally)

    def _state(self) -> tuple[list[Any], list[list[Any]], Any, Any]:
        return (
            [variable.value for variable in self._weights],
            [[variable.value for variable in of_weight] for of_weight in self._slots],
            self._scale.value,
            self._tally.value,
        )


def to_array(tensor: Any) -> np.ndarray:
    """Return a copy of a tensor of the backend as an array; waits for the device."""
    from keras import ops

    return np.array(ops.convert_to_numpy(tensor))


def filled(arrays: Any, n: int, batch: int, how: str) -> Any:
    """Fill an array, or a mapping of arrays, from `n` up to `batch` rows: with the last one, or with zeros."""
    if isinstance(arrays, Mapping):
        return {key: filled(value, n, batch, how) for key, value in arrays.items()}
    if n == batch:
        return arrays
    rest = np.repeat(arrays[-1:], batch - n, axis=0) if how == "last" else np.zeros((batch - n, *arrays.shape[1:]))
    return np.concatenate([arrays, rest.astype(arrays.dtype)])


def count_moved(before: Sequence[Any], after: Sequence[Any], groups: Sequence[str]) -> Any:
    """Return how many numbers of each group have other bits, int32."""
    from keras import ops

    counts: dict[str, Any] = {}
    for old, new, group in zip(before, after, groups, strict=True):
        # bits, not values: what is no number equals nothing, not even itself
        differs = ops.not_equal(ops.view(old, "int32"), ops.view(new, "int32"))
        n = ops.sum(ops.cast(differs, "int32"))
        counts[group] = counts[group] + n if group in counts else n
    return ops.stack(list(counts.values()))


def assign(weights: list[Any], slots: list[list[Any]], moved: list[Any], kept: list[list[Any]]) -> None:
    """Give the variables of weights and of their slots new values."""
    for variables, values in ((weights, moved), *zip(slots, kept, strict=True)):
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


def values_of(model: Any) -> tuple[list[Any], list[Any]]:
    """Return the present values of a model's trainable and other variables."""
    trainable, fixed = (
        [variable.value for variable in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables)
    )
    return trainable, fixed
