"""Compiled forward passes, gradients and steps of training, on the backend that Keras uses.

That is TensorFlow, JAX or PyTorch; a forward pass can run in OpenVINO as well. Code outside this folder is written with
Keras alone and runs on any of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from histotransfer.backends.jax import JaxGradients, JaxPrepared, JaxStep, jax_forward, jax_update
from histotransfer.backends.openvino import openvino_forward
from histotransfer.backends.process import name
from histotransfer.backends.protocols import Forward, Gradients, PreparedForward, TrainStep
from histotransfer.backends.tensorflow import (
    TensorflowGradients,
    TensorflowPrepared,
    TensorflowStep,
    tensorflow_forward,
    tensorflow_update,
)
from histotransfer.backends.torch import TorchGradients, TorchPrepared, TorchStep, torch_forward, torch_update

log = logging.getLogger("histotransfer")


def compiled_forward(
    model: Any, px: int, *, engine: str = "keras", batch: int | None = None, threads: int = 0
) -> Forward:
    """Compile a model's forward pass.

    Parameters
    ----------
    model : keras.Model
        From uint8 (n, px, px, 3) to a list of float32 arrays (n, d), as :func:`histotransfer.networks.building.build`
        makes it.
    px : int
        Edge of the input.
    engine : str
        ``keras``: the backend of Keras; ``openvino``: through Keras' own export, on the CPU, in float32 whatever
        the processor has.
    batch : int, optional
        Largest number of tiles a call; JAX, which compiles once per shape, fills each call up to it.
    threads : int
        Of OpenVINO; 0 leaves it to choose. The others follow
        :func:`histotransfer.backends.process.set_threads`.

    Returns
    -------
    callable
        From a uint8 array to a list of float32 arrays, which the caller may change.
    """
    if engine == "openvino":
        return openvino_forward(model, threads)
    return {"tensorflow": tensorflow_forward, "jax": jax_forward, "torch": torch_forward}[name()](model, px, batch)


def compiled_train_step(
    model: Any,
    *,
    weights: Sequence[Any],
    slots: Sequence[Sequence[Any]],
    scale: Any,
    prepare: Callable[[Any, Mapping[str, Any]], Any],
    loss: Callable[[list[Any], Any], tuple[Any, Any, Any]],
    update: Callable[..., tuple[list[Any], list[list[Any]]]],
    rescaled: Callable[[Any, Any], Any] | None = None,
) -> TrainStep:
    """Compile one step: prepare the batch, forward, backward, move the weights, count.

    Parameters
    ----------
    model : keras.Model
        From what `prepare` gives to one or more outputs.
    weights : sequence of keras.Variable
        What is trained: ``model.trainable_variables``.
    slots : sequence of sequences of keras.Variable
        The optimiser's arrays of each of `weights`.
    scale : keras.Variable of shape (2,)
        The scale of the loss and how many good steps it has; see `rescaled`.
    prepare : callable
        ``prepare(inputs, drawn)``: from a batch as it is stored to the model's input, with ``keras.ops``.
    loss : callable
        ``loss(outputs, labels)``: what is made smaller, the loss that is reported, and how many tiles are predicted
        correctly; scalars, float32.
    update : callable
        ``update(weights, gradients, slots, size, rate)``: weights and slots after the step.
    rescaled : callable, optional
        For float16: the loss is multiplied by ``scale[0]`` and the gradients divided by it; where one is not finite
        the step moves nothing. ``rescaled(scale, finite)`` is the scale after the step.

    Returns
    -------
    TrainStep
        State lies in the variables of Keras on TensorFlow and PyTorch; on JAX in arrays that :meth:`TrainStep.settle`
        brings there.
    """
    import keras

    tally = keras.Variable(np.zeros(4, np.float32), trainable=False, dtype="float32", name="tally")
    kind = {"tensorflow": TensorflowStep, "jax": JaxStep, "torch": TorchStep}[name()]
    return kind(model, list(weights), list(map(list, slots)), scale, tally, prepare, loss, update, rescaled)


def compiled_prepared_forward(
    model: Any, *, prepare: Callable[[Any, Mapping[str, Any]], Any], batch: int
) -> PreparedForward:
    """Compile a forward pass in inference mode of tiles that are varied as in training.

    Parameters
    ----------
    model : keras.Model
    prepare : callable
        As :func:`compiled_train_step` has it.
    batch : int
        Largest number of inputs a call. JAX, which compiles once per shape, fills each call up to it.

    Returns
    -------
    PreparedForward
    """
    kind = {"tensorflow": TensorflowPrepared, "jax": JaxPrepared, "torch": TorchPrepared}[name()]
    return kind(model, prepare, batch)


def compiled_gradients(
    model: Any,
    *,
    objective: Callable[[list[Any], Mapping[str, Any]], Sequence[Any]],
    prepare: Callable[[Any, Mapping[str, Any]], Any] = lambda inputs, drawn: inputs,
    batch: int,
    by_input: bool = False,
) -> Gradients:
    """Compile the gradients of an objective by a model's trainable weights, and by its input; nothing is moved.

    Layers are in inference mode: no dropout, batch normalisation by its moving statistics.

    Parameters
    ----------
    model : keras.Model
        Its weights are read anew at each call.
    objective : callable
        ``objective(outputs, given)``: scalars, float32; the first is differentiated. It must be a sum over the batch to
        which an input whose `given` is 0 adds nothing: JAX fills batches up with such.
    prepare : callable
        As :func:`compiled_train_step` has it; not differentiated.
    batch : int
        Largest number of inputs a call.
    by_input : bool
        Whether the gradient by the model's input is returned as well.

    Returns
    -------
    Gradients
    """
    kind = {"tensorflow": TensorflowGradients, "jax": JaxGradients, "torch": TorchGradients}[name()]
    return kind(model, objective, prepare, batch, by_input)


def compiled_update(
    *,
    weights: Sequence[Any],
    slots: Sequence[Sequence[Any]],
    update: Callable[..., tuple[list[Any], list[list[Any]]]],
    groups: Sequence[str],
) -> Callable[[list[Any], float, float], Any]:
    """Compile the step of an optimiser whose gradients are known, and the count of the weights that it moves.

    Parameters
    ----------
    weights : sequence of keras.Variable
    slots : sequence of sequences of keras.Variable
        The optimiser's arrays of each of `weights`.
    update : callable
        ``update(weights, gradients, slots, size, rate)``: weights and slots after the step.
    groups : sequence of str
        The group of each weight.

    Returns
    -------
    callable
        ``move(gradients, size, rate)`` moves the variables of Keras, uses the gradients up, and returns a tensor of
        int32, one number for each group in the order of their first weights: how many float32 numbers have other bits
        than before.
    """
    kind = {"tensorflow": tensorflow_update, "jax": jax_update, "torch": torch_update}[name()]
    return kind(list(weights), list(map(list, slots)), update, list(groups))
