"""Forward passes, gradients and training steps on JAX; the one module that imports it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from histotransfer.backends.protocols import Forward
from histotransfer.backends.shared import Step, assign, count_moved, filled, listed, settled, values_of


def jax_forward(model: Any, px: int, batch: int | None) -> Forward:
    import jax

    @jax.jit
    def forward(trainable: Any, fixed: Any, tiles: Any) -> list[Any]:
        outputs, _ = model.stateless_call(trainable, fixed, tiles, training=False)
        return listed(outputs)

    def padded(tiles: np.ndarray) -> list[np.ndarray]:
        n = len(tiles)
        if batch is not None and n < batch:
            tiles = filled(tiles, n, batch, "zero")
        # values are taken anew at each call: Keras' own predict gives these arrays away
        return [np.array(output)[:n] for output in forward(*values_of(model), tiles)]

    return padded


class JaxStep(Step):
    _function: Any = None
    _held: Any = None

    def __call__(self, inputs, labels, drawn, *, number, size, rate) -> None:
        import jax

        if self._function is None:
            self._function = jax.jit(self._step, donate_argnums=(0, 1))
        if self._held is None:
            # copies: what is given away to a step is gone, and others read the variables of Keras
            fixed = [variable.value.copy() for variable in self._model.non_trainable_variables]
            self._held = (jax.tree.map(lambda value: value.copy(), self._state()), fixed)
        scalars = np.array([number, size, rate], np.float32)
        self._held = self._function(*self._held, inputs, labels.astype(np.int32), dict(drawn), scalars)

    def _step(self, state: Any, fixed: Any, inputs: Any, labels: Any, drawn: Any, scalars: Any) -> Any:
        import jax

        number, size, rate = scalars[0], scalars[1], scalars[2]
        prepared = self._prepare(inputs, drawn)

        def objective(weights: Any) -> Any:
            outputs, after = self._model.stateless_call(weights, fixed, prepared, training=True)
            scaled, counted = self._objective(outputs, labels, state[2])
            return scaled, (counted, after)

        gradients, (counted, after) = jax.grad(objective, has_aux=True)(state[0])
        counted = (*counted, float(len(labels)), number)
        return settled(gradients, state, counted, size, rate, self._update, self._rescaled), after

    def tally(self) -> np.ndarray:
        if self._held is None:
            return super().tally()
        (weights, slots, scale, tally), fixed = self._held
        self._held = ((weights, slots, scale, tally * 0), fixed)
        return np.array(tally)

    def settle(self) -> None:
        if self._held is None:
            return
        state, fixed = self._held
        self._assign(state)
        for variable, value in zip(self._model.non_trainable_variables, fixed, strict=True):
            variable.assign(value)
        # taken anew at the next step
        self._held = None


class JaxPrepared:
    def __init__(self, model: Any, prepare: Callable[..., Any], batch: int) -> None:
        import jax

        def forward(trainable: Any, fixed: Any, inputs: Any, drawn: Any) -> Any:
            outputs, _ = model.stateless_call(trainable, fixed, prepare(inputs, drawn), training=False)
            return listed(outputs)[0]

        self._model, self._batch, self._function = model, batch, jax.jit(forward)

    def __call__(self, inputs, drawn) -> Any:
        n = len(inputs)
        inputs, drawn = filled(inputs, n, self._batch, "last"), filled(dict(drawn), n, self._batch, "last")
        # values are taken anew at each call: Keras' own predict gives these arrays away
        return self._function(*values_of(self._model), inputs, drawn)[:n]


class JaxGradients:
    def __init__(self, model, objective, prepare, batch, by_input) -> None:
        import jax

        def added(total: Any, trainable: Any, fixed: Any, inputs: Any, given: Any, drawn: Any) -> Any:
            def scalars_of(weights: Any, prepared: Any) -> Any:
                outputs, _ = model.stateless_call(weights, fixed, prepared, training=False)
                scalars = objective(listed(outputs), given)
                return scalars[0], jax.numpy.stack(list(scalars))

            prepared = prepare(inputs, drawn)
            places = (0, 1) if by_input else (0,)
            (by_weights, *rest), scalars = jax.grad(scalars_of, argnums=places, has_aux=True)(trainable, prepared)
            return [old + new for old, new in zip(total, by_weights, strict=True)], scalars, *rest

        self._model, self._batch = model, batch
        self._function = jax.jit(added, donate_argnums=0)

    def zeros(self) -> list[Any]:
        import jax

        return [jax.numpy.zeros(weight.shape, "float32") for weight in self._model.trainable_variables]

    def __call__(self, total, inputs, given, drawn) -> tuple[list[Any], Any, Any]:
        n = len(inputs)
        # filled with the last input: of zeros the network may give what is not finite, and times 0 that stays so
        inputs, drawn = filled(inputs, n, self._batch, "last"), filled(dict(drawn), n, self._batch, "last")
        given = filled(dict(given), n, self._batch, "zero")
        total, scalars, *rest = self._function(total, *values_of(self._model), inputs, given, drawn)
        return total, scalars, rest[0][:n] if rest else None


def jax_update(weights: list[Any], slots: list[list[Any]], update: Any, groups: list[str]) -> Any:
    from functools import partial

    import jax

    @partial(jax.jit, donate_argnums=(1, 2))
    def moved_by(before: Any, of_weights: Any, gradients: Any, scalars: Any) -> Any:
        moved, kept = update(before, gradients, of_weights, scalars[0], scalars[1])
        return moved, kept, count_moved(before, moved, groups)

    def move(gradients: list[Any], size: float, rate: float) -> Any:
        before = [weight.value for weight in weights]
        of_weights = [[slot.value for slot in of_weight] for of_weight in slots]
        moved, kept, counts = moved_by(before, of_weights, list(gradients), np.array([size, rate], np.float32))
        assign(weights, slots, moved, kept)
        return counts

    return move
