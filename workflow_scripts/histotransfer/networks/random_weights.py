"""Random weights by seed: Glorot, He, Xavier and Gaussian."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from histotransfer.definitions import Initialisation

#: Legal values of an initialisation's ``kind``.
INITIALISATIONS = ("glorot", "he", "xavier", "gaussian")
#: Deviation of Gaussian weights where none is given.
# ASSUME Bayramoglu and Heikkila (2016) name no deviation; Caffe's AlexNet has 0.01 in its convolutions
GAUSSIAN_DEVIATION = 0.01


def draw_weights(layers: Iterable[Any], *, seed: int, initialisation: Initialisation | None = None) -> None:
    """Give every kernel of new layers random weights; biases (0) and batch normalisation stay as Keras begins them.

    The weights are drawn by NumPy, one layer after the other, so they are the same on every backend.

    Parameters
    ----------
    layers : iterable of keras.Layer
        Built layers, in the order of drawing; those without kernels are passed over.
    seed : int
        Of the generator.
    initialisation : Initialisation, optional
        He's by default. By its kind, with n inputs and m outputs of a unit (of a convolution over its whole window, of
        a depthwise one in one map):

        - ``he``: normal, of deviation sqrt(2 / n) (He et al. 2015, equation 10);
        - ``glorot``: uniform within +-sqrt(6 / (n + m)) (Glorot and Bengio 2010, equation 16);
        - ``xavier``: as Caffe has it, uniform within +-sqrt(3 / n) (Jia et al. 2014, ``XavierFiller``);
        - ``gaussian``: normal, of the ``deviation`` given, or of 0.01.

    Raises
    ------
    ValueError
        If the kind is unknown, or a deviation is not above 0 or given to another kind.
    """
    # ASSUME an untrained network begins with He's weights, not with Keras' default (Glorot), which takes a depthwise
    # kernel for a full one: MobileNetV2's features would be of the order of 1e-11, less than trees and float16 can tell
    import numpy as np

    kind, deviation = _initialisation(initialisation)
    generator = np.random.default_rng(seed)
    for layer in layers:
        values = layer.get_weights()
        for k, value in enumerate(values):
            if value.ndim > 1:
                per_map = type(layer).__name__ == "DepthwiseConv2D"
                window = int(np.prod(value.shape[:2])) if value.ndim == 4 else 1
                inputs = int(np.prod(value.shape[:2] if per_map else value.shape[:-1]))
                outputs = window * value.shape[-1]
                if kind in ("he", "gaussian"):
                    size = np.sqrt(2 / inputs) if kind == "he" else deviation
                    drawn = generator.standard_normal(value.shape, np.float32)
                else:
                    size = np.sqrt(3 / inputs if kind == "xavier" else 6 / (inputs + outputs))
                    drawn = 2 * generator.random(value.shape, np.float32) - 1
                values[k] = drawn * np.float32(size)
        if values:
            layer.set_weights(values)


def _initialisation(given: Initialisation | None) -> tuple[str, float]:
    """Return the kind and, for Gaussian weights, the deviation."""
    kind, deviation = ("he", None) if given is None else (given.kind, given.deviation)
    if kind not in INITIALISATIONS:
        raise ValueError(f"initialisation.kind: legal are {', '.join(INITIALISATIONS)}; found {kind!r}")
    if deviation is not None and kind != "gaussian":
        raise ValueError(f"initialisation.deviation: legal with gaussian alone; found {deviation!r} with {kind}")
    if deviation is not None and not deviation > 0:
        raise ValueError(f"initialisation.deviation: legal are numbers above 0; found {deviation!r}")
    return kind, GAUSSIAN_DEVIATION if deviation is None else float(deviation)
