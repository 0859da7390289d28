"""Which backend of Keras this process uses, with how many threads, and how it runs deterministically."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

log = logging.getLogger("histotransfer")


#: Legal values of ``engine``.
ENGINES = ("keras", "openvino")
#: Largest difference of an OpenVINO feature from Keras', as a share of the largest feature of its kind.
OPENVINO_TOLERANCE = 1e-4


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
    """Return whether an error says that memory ran out, on any device: each backend has an error of its own."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if kinds & {"ResourceExhaustedError", "OutOfMemoryError", "MemoryError"}:
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        words in message for words in ("resource_exhausted", "out of memory", "can't allocate memory")
    )
