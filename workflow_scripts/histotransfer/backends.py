"""The only module that imports a backend: one compiled forward pass on TensorFlow, JAX or PyTorch, or in OpenVINO.

Everything else is written with Keras alone and runs on any of them.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

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

    @tf.function(input_signature=[tf.TensorSpec((None, px, px, 3), tf.uint8)], autograph=False)
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
