"""The only module that imports a backend: compiled forward passes, gradients, and steps of training.

The forward pass runs on TensorFlow, JAX or PyTorch, or in OpenVINO; all else on the first three.

Everything else is written with Keras alone and runs on any of them.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

log = logging.getLogger("histotransfer")

#: Legal values of ``engine``.
ENGINES = ("keras", "openvino")
#: Largest difference of an OpenVINO feature from Keras', as a share of the largest feature of its kind.
OPENVINO_TOLERANCE = 1e-4

#: From tiles, uint8 (n, px, px, 3) with n up to the batch, to one float32 array (n, d) per output of the model.
Forward = Callable[[np.ndarray], list[np.ndarray]]


def name() -> str:
    """Return the backend that Keras uses, or would use: ``tensorflow``, ``jax`` or ``torch``. Imports nothing."""
    if "keras" in sys.modules:
        return sys.modules["keras"].backend.backend()
    if os.environ.get("KERAS_BACKEND"):
        return os.environ["KERAS_BACKEND"]
    settings = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "keras.json"
    try:
        return json.loads(settings.read_text("utf-8")).get("backend", "tensorflow")
    except (OSError, ValueError):
        return "tensorflow"


def check(*, engine: str, precision: str) -> None:
    """Raise if an engine is unknown, or cannot have a precision or a backend.

    Raises
    ------
    ValueError
        Saying what is legal.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine: legal are {', '.join(ENGINES)}; found {engine!r}")
    if engine == "openvino" and precision != "float32":
        raise ValueError(f"precision: with engine openvino legal is float32 alone; found {precision!r}")
    if engine == "openvino" and name() == "jax":
        raise ValueError("engine: openvino cannot convert what the JAX backend exports; legal with jax is keras alone")


def set_threads(threads: int) -> None:
    """Limit the backend's threads of this process. To be called before a network is built.

    A backend that has already computed something keeps the number it has.
    """
    backend = name()
    if backend == "tensorflow":
        import tensorflow as tf

        try:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
            for device in tf.config.list_physical_devices("GPU"):
                tf.config.experimental.set_memory_growth(device, True)
        except RuntimeError:
            log.debug("TensorFlow runs already: its threads stay as they are")
    elif backend == "torch":
        import torch

        torch.set_num_threads(threads)


def compiled_forward(
    model: Any, px: int, *, engine: str = "keras", batch: int | None = None, threads: int = 0
) -> Forward:
    """Compile a model's forward pass.

    Parameters
    ----------
    model : keras.Model
        From uint8 (n, px, px, 3) to a list of float32 arrays (n, d), as :func:`histotransfer.networks.build` makes it.
    px : int
        Edge of the input.
    engine : str
        ``keras``: the backend of Keras; ``openvino``: through Keras' own export, on the CPU, in float32 whatever
        the processor has.
    batch : int, optional
        Largest number of tiles a call; JAX pads each call to it, since it compiles once per shape.
    threads : int
        Of OpenVINO; 0 leaves it to choose. The others follow :func:`set_threads`.

    Returns
    -------
    callable
        From a uint8 array to a list of float32 arrays that are the caller's own.
    """
    if engine == "openvino":
        return _openvino(model, threads)
    return {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[name()](model, px, batch)


def _tensorflow(model: Any, px: int, batch: int | None) -> Forward:
    import tensorflow as tf

    [taken] = model.inputs

    @tf.function(input_signature=[tf.TensorSpec(taken.shape, taken.dtype)], autograph=False)
    def forward(tiles: Any) -> list[Any]:
        return _listed(model(tiles, training=False))

    return lambda tiles: [output.numpy() for output in forward(tf.convert_to_tensor(tiles))]


def _jax(model: Any, px: int, batch: int | None) -> Forward:
    import jax

    @jax.jit
    def forward(trainable: Any, fixed: Any, tiles: Any) -> list[Any]:
        outputs, _ = model.stateless_call(trainable, fixed, tiles, training=False)
        return _listed(outputs)

    def padded(tiles: np.ndarray) -> list[np.ndarray]:
        # taken afresh: Keras' own predict gives these arrays away
        trainable = [variable.value for variable in model.trainable_variables]
        fixed = [variable.value for variable in model.non_trainable_variables]
        n = len(tiles)
        if batch is not None and n < batch:
            tiles = np.concatenate([tiles, np.zeros((batch - n, *tiles.shape[1:]), tiles.dtype)])
        return [np.array(output)[:n] for output in forward(trainable, fixed, tiles)]

    return padded


def _torch(model: Any, px: int, batch: int | None) -> Forward:
    import torch
    from keras import ops

    def forward(tiles: np.ndarray) -> list[np.ndarray]:
        with torch.inference_mode():
            return [ops.convert_to_numpy(output) for output in _listed(model(tiles, training=False))]

    return forward


def _openvino(model: Any, threads: int) -> Forward:
    import keras
    import openvino

    # the conversion may put outputs in another order: as one long row they keep it
    outputs = _listed(model.outputs)
    ends = np.cumsum([output.shape[-1] for output in outputs])[:-1]
    one = keras.Model(model.input, keras.ops.concatenate(outputs, axis=-1)) if len(outputs) > 1 else model
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.xml")
        one.export(path, format="openvino", verbose=False)
        # without the hint, OpenVINO computes in bfloat16 where the processor has it, and features depend on the machine
        settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        compiled = openvino.Core().compile_model(path, "CPU", settings)

    def forward(tiles: np.ndarray) -> list[np.ndarray]:
        # a copy: OpenVINO writes the next batch into the same memory
        row = np.array(compiled([tiles])[0])
        return np.split(row, ends, axis=1)

    return forward


def _listed(outputs: Any) -> list[Any]:
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def set_deterministic() -> None:
    """Ask the backend for kernels that give the same bits each time. To be called before a network is built.

    On a CPU they are the same for one number of threads (see :func:`set_threads`); another number adds in another
    order, and training soon comes to other weights.
    """
    backend = name()
    if backend == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    elif backend == "torch":
        import torch

        # cuBLAS reads it when it is first used
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False


def ran_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out, on whatever device: each backend has an error of its own."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if kinds & {"ResourceExhaustedError", "OutOfMemoryError", "MemoryError"}:
        return True
    told = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        words in told for words in ("resource_exhausted", "out of memory", "can't allocate memory")
    )


class TrainStep(Protocol):
    """One step of training, compiled; see :func:`compiled_train_step`."""

    def __call__(
        self,
        inputs: np.ndarray,
        labels: np.ndarray,
        drawn: Mapping[str, np.ndarray],
        *,
        number: int,
        size: float,
        rate: float,
    ) -> None:
        """Make one step; nothing is read back.

        Parameters
        ----------
        inputs : ndarray of shape (n, ...)
            A batch, as `prepare` takes it.
        labels : ndarray of int32, shape (n,)
        drawn : mapping of str to ndarray of shape (n, ...)
            What chance says about each tile; the same keys at every step.
        number : int
            Of the step, from 1: what is said about a loss that is not finite.
        size, rate : float
            See :class:`histotransfer.optimisation.Update`.
        """

    def tally(self) -> np.ndarray:
        """Return what was counted since the last call, and begin anew: waits for the device.

        Returns
        -------
        ndarray of float32, shape (4,)
            Sum of the tiles' losses, tiles predicted correctly, tiles, number of the first step whose objective was
            not finite (0: none).
        """

    def settle(self) -> None:
        """Bring the weights, statistics and slots into the variables of Keras, where others read them."""


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
        The optimiser's own, for each of `weights`.
    scale : keras.Variable of shape (2,)
        The scale of the loss and how many good steps it has; see `rescaled`.
    prepare : callable
        ``prepare(inputs, drawn)``: from a batch as it is stored to the model's input, with ``keras.ops``.
    loss : callable
        ``loss(outputs, labels)``: what is made smaller, the loss that is told, and how many tiles are predicted
        correctly; float32.
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
    kind = {"tensorflow": _TensorflowStep, "jax": _JaxStep, "torch": _TorchStep}[name()]
    return kind(model, list(weights), [list(own) for own in slots], scale, tally, prepare, loss, update, rescaled)


def _settled(
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
            [ops.where(finite, new, old) for new, old in zip(ours, own, strict=True)]
            for ours, own in zip(kept, slots, strict=True)
        ]
        scale = rescaled(scale, finite)
    first = tally[3]
    bad = ops.logical_and(ops.equal(first, 0.0), ops.logical_not(ops.isfinite(objective)))
    tally = ops.stack([tally[0] + loss * n, tally[1] + correct, tally[2] + n, ops.where(bad, number, first)])
    return moved, kept, scale, tally


class _Step:
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
        """Nothing is left to do where a step moves the variables of Keras themselves."""

    def _objective(self, outputs: Any, labels: Any, scale: Any) -> tuple[Any, tuple[Any, Any, Any]]:
        """Return what is differentiated; and the objective, the loss and how many tiles are predicted correctly."""
        counted = self._loss(_listed(outputs), labels)
        return (counted[0] if self._rescaled is None else counted[0] * scale[0]), counted

    def _assign(self, state: tuple[list[Any], list[list[Any]], Any, Any]) -> None:
        moved, kept, scale, tally = state
        for variable, value in zip(self._weights, moved, strict=True):
            variable.assign(value)
        for own, values in zip(self._slots, kept, strict=True):
            for variable, value in zip(own, values, strict=True):
                variable.assign(value)
        if self._rescaled is not None:
            self._scale.assign(scale)
        self._tally.assign(tally)

    def _state(self) -> tuple[list[Any], list[list[Any]], Any, Any]:
        return (
            [variable.value for variable in self._weights],
            [[variable.value for variable in own] for own in self._slots],
            self._scale.value,
            self._tally.value,
        )


class _TensorflowStep(_Step):
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
        self._assign(_settled(gradients, state, (*counted, n, number), size, rate, self._update, self._rescaled))


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


class _TorchStep(_Step):
    def __call__(self, inputs, labels, drawn, *, number, size, rate) -> None:
        import torch
        from keras import ops

        with torch.no_grad():
            given = {name: ops.convert_to_tensor(value) for name, value in drawn.items()}
            prepared = self._prepare(ops.convert_to_tensor(inputs), given)
        weights, slots, scale, tally = self._state()
        labels = ops.convert_to_tensor(labels, "int32")
        scaled, counted = self._objective(self._model(prepared, training=True), labels, scale)
        gradients = torch.autograd.grad(scaled, weights, allow_unused=True)
        with torch.no_grad():
            gradients = [
                torch.zeros_like(weight) if gradient is None else gradient
                for gradient, weight in zip(gradients, weights, strict=True)
            ]
            told = (
                *(value.detach() for value in counted),
                float(len(labels)),
                torch.full_like(tally[3], float(number)),
            )
            state = (weights, slots, scale, tally)
            self._assign(_settled(gradients, state, told, size, rate, self._update, self._rescaled))


class _JaxStep(_Step):
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
        told = (*counted, float(len(labels)), number)
        return _settled(gradients, state, told, size, rate, self._update, self._rescaled), after

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


class PreparedForward(Protocol):
    """A forward pass with preparation, compiled; see :func:`compiled_prepared_forward`."""

    def __call__(self, inputs: np.ndarray, drawn: Mapping[str, np.ndarray]) -> Any:
        """Return the model's first output as a tensor of the backend, which may still be computed.

        Parameters
        ----------
        inputs : ndarray of shape (n, ...)
        drawn : mapping of str to ndarray of shape (n, ...)
            The same keys at every call.
        """


class Gradients(Protocol):
    """Gradients of an objective, compiled; see :func:`compiled_gradients`."""

    def zeros(self) -> list[Any]:
        """Return what sums begin with: a tensor of zeros for each weight."""

    def __call__(
        self,
        total: list[Any],
        inputs: np.ndarray,
        given: Mapping[str, np.ndarray],
        drawn: Mapping[str, np.ndarray],
    ) -> tuple[list[Any], Any, Any]:
        """Add one batch's gradients to a sum; nothing is read back.

        Parameters
        ----------
        total : list of tensors
            The sum so far, which is used up: take what is returned in its place.
        inputs : ndarray of shape (n, ...)
            As `prepare` takes it.
        given : mapping of str to ndarray of shape (n, ...)
            What the objective takes besides the outputs.
        drawn : mapping of str to ndarray of shape (n, ...)

        Returns
        -------
        total : list of tensors
            The sum with this batch, in the order of the weights.
        told : tensor of float32, shape (m,)
            What the objective returned.
        by_input : tensor or None
            The gradient by what `prepare` gave, of this batch alone, where it was asked for.
        """


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
    kind = {"tensorflow": _TensorflowPrepared, "jax": _JaxPrepared, "torch": _TorchPrepared}[name()]
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
    kind = {"tensorflow": _TensorflowGradients, "jax": _JaxGradients, "torch": _TorchGradients}[name()]
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
        The optimiser's own, for each of `weights`.
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
    kind = {"tensorflow": _tensorflow_update, "jax": _jax_update, "torch": _torch_update}[name()]
    return kind(list(weights), [list(own) for own in slots], update, list(groups))


def to_array(tensor: Any) -> np.ndarray:
    """Return a tensor of the backend as an array of the caller's own; waits for the device."""
    from keras import ops

    return np.array(ops.convert_to_numpy(tensor))


def _filled(arrays: Any, n: int, batch: int, how: str) -> Any:
    """Fill an array, or a mapping of arrays, from `n` up to `batch` rows: with the last one, or with zeros."""
    if isinstance(arrays, Mapping):
        return {key: _filled(value, n, batch, how) for key, value in arrays.items()}
    if n == batch:
        return arrays
    rest = np.repeat(arrays[-1:], batch - n, axis=0) if how == "last" else np.zeros((batch - n, *arrays.shape[1:]))
    return np.concatenate([arrays, rest.astype(arrays.dtype)])


def _count_moved(before: Sequence[Any], after: Sequence[Any], groups: Sequence[str]) -> Any:
    """Return how many numbers of each group have other bits, int32."""
    from keras import ops

    counts: dict[str, Any] = {}
    for old, new, group in zip(before, after, groups, strict=True):
        # bits, not values: what is no number equals nothing, not even itself
        differs = ops.not_equal(ops.view(old, "int32"), ops.view(new, "int32"))
        n = ops.sum(ops.cast(differs, "int32"))
        counts[group] = counts[group] + n if group in counts else n
    return ops.stack(list(counts.values()))


class _TensorflowPrepared:
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
        return _listed(self._model(self._prepare(inputs, drawn), training=False))[0]


class _TensorflowGradients:
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
                [tf.TensorSpec(one.shape, tf.float32) for one in total],
                *_signature(self._model, *arguments),
            ]
            self._function = tf.function(self._added, autograph=False, input_signature=signature)
        total, told, by_input = self._function(list(total), *arguments)
        return total, told, (by_input if self._by_input else None)

    def _added(self, total: list[Any], inputs: Any, given: Any, drawn: Any) -> tuple[list[Any], Any, Any]:
        import tensorflow as tf

        prepared = self._prepare(inputs, drawn)
        weights = [variable.value for variable in self._model.trainable_variables]
        with tf.GradientTape() as tape:
            if self._by_input:
                tape.watch(prepared)
            told = self._objective(_listed(self._model(prepared, training=False)), given)
        sources = [*weights, prepared] if self._by_input else weights
        gradients = tape.gradient(told[0], sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        # embedding-like layers give sparse gradients
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        added = [old + new for old, new in zip(total, gradients[: len(weights)], strict=True)]
        return added, tf.stack(list(told)), gradients[-1] if self._by_input else tf.zeros(())


def _tensorflow_update(weights: list[Any], slots: list[list[Any]], update: Any, groups: list[str]) -> Any:
    import tensorflow as tf

    signature = [tf.TensorSpec(weight.shape, tf.float32) for weight in weights]

    @tf.function(input_signature=[signature, tf.TensorSpec((2,), tf.float32)], autograph=False)
    def move(gradients: Any, scalars: Any) -> Any:
        # copies: a variable of TensorFlow is read where it is used, and here it is used after it has moved
        before = [tf.identity(weight.value) for weight in weights]
        own = [[slot.value for slot in each] for each in slots]
        moved, kept = update(before, gradients, own, scalars[0], scalars[1])
        _assign(weights, slots, moved, kept)
        return _count_moved(before, moved, groups)

    return lambda gradients, size, rate: move(list(gradients), tf.constant([size, rate], tf.float32))


def _assign(weights: list[Any], slots: list[list[Any]], moved: list[Any], kept: list[list[Any]]) -> None:
    for variable, value in zip(weights, moved, strict=True):
        variable.assign(value)
    for own, values in zip(slots, kept, strict=True):
        for variable, value in zip(own, values, strict=True):
            variable.assign(value)


class _JaxPrepared:
    def __init__(self, model: Any, prepare: Callable[..., Any], batch: int) -> None:
        import jax

        def forward(trainable: Any, fixed: Any, inputs: Any, drawn: Any) -> Any:
            outputs, _ = model.stateless_call(trainable, fixed, prepare(inputs, drawn), training=False)
            return _listed(outputs)[0]

        self._model, self._batch, self._function = model, batch, jax.jit(forward)

    def __call__(self, inputs, drawn) -> Any:
        n = len(inputs)
        inputs, drawn = _filled(inputs, n, self._batch, "last"), _filled(dict(drawn), n, self._batch, "last")
        # taken afresh: Keras' own predict gives these arrays away
        return self._function(*_values(self._model), inputs, drawn)[:n]


def _values(model: Any) -> tuple[list[Any], list[Any]]:
    kinds = (model.trainable_variables, model.non_trainable_variables)
    return tuple([variable.value for variable in own] for own in kinds)


class _JaxGradients:
    def __init__(self, model, objective, prepare, batch, by_input) -> None:
        import jax

        def added(total: Any, trainable: Any, fixed: Any, inputs: Any, given: Any, drawn: Any) -> Any:
            def told_of(weights: Any, prepared: Any) -> Any:
                outputs, _ = model.stateless_call(weights, fixed, prepared, training=False)
                told = objective(_listed(outputs), given)
                return told[0], jax.numpy.stack(list(told))

            prepared = prepare(inputs, drawn)
            places = (0, 1) if by_input else (0,)
            (own, *rest), told = jax.grad(told_of, argnums=places, has_aux=True)(trainable, prepared)
            return [old + new for old, new in zip(total, own, strict=True)], told, *rest

        self._model, self._batch = model, batch
        self._function = jax.jit(added, donate_argnums=0)

    def zeros(self) -> list[Any]:
        import jax

        return [jax.numpy.zeros(weight.shape, "float32") for weight in self._model.trainable_variables]

    def __call__(self, total, inputs, given, drawn) -> tuple[list[Any], Any, Any]:
        n = len(inputs)
        # the last input again: whatever is no number for zeros, times 0 would still be none
        inputs, drawn = _filled(inputs, n, self._batch, "last"), _filled(dict(drawn), n, self._batch, "last")
        given = _filled(dict(given), n, self._batch, "zero")
        total, told, *rest = self._function(total, *_values(self._model), inputs, given, drawn)
        return total, told, rest[0][:n] if rest else None


def _jax_update(weights: list[Any], slots: list[list[Any]], update: Any, groups: list[str]) -> Any:
    from functools import partial

    import jax

    @partial(jax.jit, donate_argnums=(1, 2))
    def moved_by(before: Any, own: Any, gradients: Any, scalars: Any) -> Any:
        moved, kept = update(before, gradients, own, scalars[0], scalars[1])
        return moved, kept, _count_moved(before, moved, groups)

    def move(gradients: list[Any], size: float, rate: float) -> Any:
        before = [weight.value for weight in weights]
        own = [[slot.value for slot in each] for each in slots]
        moved, kept, counts = moved_by(before, own, list(gradients), np.array([size, rate], np.float32))
        _assign(weights, slots, moved, kept)
        return counts

    return move


class _TorchPrepared:
    def __init__(self, model: Any, prepare: Callable[..., Any], batch: int) -> None:
        self._model, self._prepare = model, prepare

    def __call__(self, inputs, drawn) -> Any:
        import torch
        from keras import ops

        with torch.inference_mode():
            drawn = {key: ops.convert_to_tensor(value) for key, value in drawn.items()}
            return _listed(self._model(self._prepare(ops.convert_to_tensor(inputs), drawn), training=False))[0]


class _TorchGradients:
    def __init__(self, model, objective, prepare, batch, by_input) -> None:
        self._model, self._objective, self._prepare, self._by_input = model, objective, prepare, by_input

    def zeros(self) -> list[Any]:
        import torch

        return [torch.zeros_like(weight.value) for weight in self._model.trainable_variables]

    def __call__(self, total, inputs, given, drawn) -> tuple[list[Any], Any, Any]:
        import torch
        from keras import ops

        inputs, given, drawn = (
            ops.convert_to_tensor(inputs),
            *({key: ops.convert_to_tensor(value) for key, value in each.items()} for each in (given, drawn)),
        )
        weights = [variable.value for variable in self._model.trainable_variables]
        with torch.no_grad():
            prepared = self._prepare(inputs, drawn)
        if self._by_input:
            prepared = prepared.detach().requires_grad_(True)
        told = self._objective(_listed(self._model(prepared, training=False)), given)
        sources = [*weights, prepared] if self._by_input else weights
        gradients = torch.autograd.grad(told[0], sources, allow_unused=True)
        with torch.no_grad():
            gradients = [
                torch.zeros_like(source) if gradient is None else gradient
                for gradient, source in zip(gradients, sources, strict=True)
            ]
            added = [old.add_(new) for old, new in zip(total, gradients[: len(weights)], strict=True)]
            told = torch.stack([value.detach() for value in told])
        return added, told, gradients[-1] if self._by_input else None


def _torch_update(weights: list[Any], slots: list[list[Any]], update: Any, groups: list[str]) -> Any:
    import torch

    def move(gradients: list[Any], size: float, rate: float) -> Any:
        with torch.no_grad():
            # copies: assignment writes into the same memory
            before = [weight.value.detach().clone() for weight in weights]
            moved, kept = update(before, list(gradients), [[slot.value for slot in own] for own in slots], size, rate)
            counts = _count_moved(before, moved, groups)
            _assign(weights, slots, moved, kept)
        return counts

    return move
