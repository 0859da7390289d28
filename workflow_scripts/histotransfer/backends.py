"""The only module that imports a backend: one compiled forward pass, and one compiled step of training.

The pass runs on TensorFlow, JAX or PyTorch, or in OpenVINO; the step on the first three.

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
            # one graph for all batches, the last and smaller one too
            signature = tf.nest.map_structure(lambda x: tf.TensorSpec((None, *x.shape[1:]), x.dtype), arguments)
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
