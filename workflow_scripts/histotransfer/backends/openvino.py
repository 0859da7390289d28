"""Forward passes in OpenVINO; the one module that imports it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from histotransfer.backends.protocols import Forward
from histotransfer.backends.shared import listed


def openvino_forward(model: Any, threads: int) -> Forward:
    import keras
    import openvino

    # the conversion may put outputs in another order: as one long row they keep it
    outputs = listed(model.outputs)
    ends = np.cumsum([output.shape[-1] for output in outputs])[:-1]
    joined = keras.Model(model.input, keras.ops.concatenate(outputs, axis=-1)) if len(outputs) > 1 else model
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.xml")
        joined.export(path, format="openvino", verbose=False)
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
