"""Forward passes, gradients and training steps on TensorFlow; the one module that imports it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from histotransfer.backends.protocols import Forward
from histotransfer.backends.shared import Step, assign, count_moved, listed, settled


def tensorflow_forward(model: Any, px: int, batch: int | None) -> Forward:
    import tensorflow as tf

    [taken] = model.inputs

    @tf.function(input_signature=[tf.TensorSpec(taken.shape, taken.dtype)], autograph=False)
    def forward(tiles: Any) -> list[Any]:
        return listed(model(tiles, training=False))

    return lambda tiles: [output.numpy() for output in forward(tf.convert_to_tensor(tiles))]


class TensorflowStep(Step):
    _function: Any = None

    def __call__(self, inputs, labels, drawn, *, number, size, rate) -> None:
        import tensorflow as tf

        given = {name: tf.convert_to_tensor(value) for name, value in drawn.items()}
        arguments = (tf.convert_to_tensor(inputs), tf.convert_to_tensor(labels, tf.int32), given)
        scalars = tf.convert_to_tensor(np.array([number, size, rate], np.float32))
        if self._function is None:
            signature = _signature(self._model, *arguments)
            self._function = tf.function(
                self._step, autograph=False, input_signature=[*signature, tf.TensorSpec((3,), tf.float32)]
            )
        self._function(*arguments, scalars)

    def _step(self, inputs: Any, labels: Any, drawn: Any, scalars: Any) -> None:
        import tensorflow as tf

        number, size, rate = scalars[0], scalars[1], scalars[2]
        prepared = self._prepare(inputs, drawn)
        state = self._state()
        with tf.GradientTape() as tape:
            scaled, counted = self._objective(self._model(prepared, training=True), labels, state[2])
        gradients = tape.gradient(scaled, state[0], unconnected_gradients=tf.UnconnectedGradients.ZERO)
        # embedding-like layers give sparse gradients; the update is written for arrays
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        n = tf.cast(tf.shape(labels)[0], tf.float32)
        self._assign(settled(gradients, state, (*counted, n, number), size, rate, self._update, self._rescaled))


def _signature(model: Any, inputs: Any, given: Any, drawn: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """Return what a graph of TensorFlow takes: one for all batches, the last and smaller one too.

    Where the model takes maps of any size, so does the graph; whichever size comes first, it is the same graph.
    """
    import tensorflow as tf

    taken, axes = model.inputs[0].shape, list(inputs.shape)
    if len(taken) == len(axes):
        axes = [axis if known is not None else None for axis, known in zip(axes, taken, strict=True)]
    return (
        tf.TensorSpec((None, *axes[1:]), inputs.dtype),
        tf.nest.map_structure(lambda tensor: tf.TensorSpec([None] * len(tensor.shape), tensor.dtype), given),
        {key: tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype) for key, tensor in drawn.items()},
    )


class TensorflowPrepared:
    _function: Any = None

    def __init__(self, model: Any, prepare: Callable[..., Any], batch: int) -> None:
        self._model, self._prepare = model, prepare

    def __call__(self, inputs, drawn) -> Any:
        import tensorflow as tf

        inputs, drawn = tf.nest.map_structure(tf.convert_to_tensor, (inputs, dict(drawn)))
        if self._function is None:
            of_inputs, _, of_drawn = _signature(self._model, inputs, {}, drawn)
            self._function = tf.function(self._forward, autograph=False, input_signature=[of_inputs, of_drawn])
        return self._function(inputs, drawn)

    def _forward(self, inputs: Any, drawn: Any) -> Any:
        return listed(self._model(self._prepare(inputs, drawn), training=False))[0]


class TensorflowGradients:
    _function: Any = None

    def __init__(self, model, objective, prepare, batch, by_input) -> None:
        self._model, self._objective, self._prepare, self._by_input = model, objective, prepare, by_input

    def zeros(self) -> list[Any]:
        import tensorflow as tf

        return [tf.zeros(weight.shape, tf.float32) for weight in self._model.trainable_variables]

    def __call__(self, total, inputs, given, drawn) -> tuple[list[Any], Any, Any]:
        import tensorflow as tf

        arguments = tf.nest.map_structure(tf.convert_to_tensor, (inputs, dict(given), dict(drawn)))
        if self._function is None:
            signature = [
                [tf.TensorSpec(gradient.shape, tf.float32) for gradient in total],
                *_signature(self._model, *arguments),
            ]
            self._function = tf.function(self._added, autograph=False, input_signature=signature)
        total, scalars, by_input = self._function(list(total), *arguments)
        return total, scalars, (by_input if self._by_input else None)

    def _added(self, total: list[Any], inputs: Any, given: Any, drawn: Any) -> tuple[list[Any], Any, Any]:
        import tensorflow as tf

        prepared = self._prepare(inputs, drawn)
        weights = [variable.value for variable in self._model.trainable_variables]
        with tf.GradientTape() as tape:
            if self._by_input:
                tape.watch(prepared)
            scalars = self._objective(listed(self._model(prepared, training=False)), given)
        sources = [*weights, prepared] if self._by_input else weights
        gradients = tape.gradient(scalars[0], sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        # embedding-like layers give sparse gradients
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        added = [old + new for old, new in zip(total, gradients[: len(weights)], strict=True)]
        return added, tf.stack(list(scalars)), gradients[-1] if self._by_input else tf.zeros(())


def tensorflow_update(weights: list[Any], slots: list[list[Any]], update: Any, groups: list[str]) -> Any:
    import tensorflow as tf

    signature = [tf.TensorSpec(weight.shape, tf.float32) for weight in weights]

    @tf.function(input_signature=[signature, tf.TensorSpec((2,), tf.float32)], autograph=False)
    def move(gradients: Any, scalars: Any) -> Any:
        # copies: a variable of TensorFlow is read where it is used, and here it is used after it has moved
        before = [tf.identity(weight.value) for weight in weights]
        of_weights = [[slot.value for slot in of_weight] for of_weight in slots]
        moved, kept = update(before, gradients, of_weights, scalars[0], scalars[1])
        assign(weights, slots, moved, kept)
        return count_moved(before, moved, groups)

    return lambda gradients, size, rate: move(list(gradients), tf.constant([size, rate], tf.float32))
