"""The U-Net: from a map of a slide's tiles, or the slide at low resolution, to the logits of every cell.

Ronneberger, O., Fischer, P. and Brox, T. (2015), "U-Net: convolutional networks for biomedical image segmentation",
MICCAI, figure 1 and section 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from histotransfer.definitions import Initialisation
from histotransfer.networks import random_weights

#: Name of the network as a layer of a saved one.
NAME = "unet"


def multiple(depth: int, cell_px: int = 1) -> int:
    """Return what the edge of a canvas (cells) must be a multiple of, so that it can be halved `depth` times.

    Examples
    --------
    >>> multiple(3), multiple(3, cell_px=2), multiple(3, cell_px=32)
    (8, 4, 1)
    """
    return 2**depth // math.gcd(2**depth, cell_px)


def build_unet(*, n_features: int, n_classes: int, filters: int, depth: int, cell_px: int = 1, seed: int) -> Any:
    """Build a U-Net with random weights.

    Parameters
    ----------
    n_features : int
        Values of a cell or, of a picture, of a pixel.
    n_classes : int
    filters : int
        Of the first level; each level below has twice as many.
    depth : int
        How often the map is halved.
    cell_px : int
        Edge (pixels) of a cell, where the input is a picture: logits of pixels are averaged over each cell.
    seed : int
        Of the weights.

    Returns
    -------
    keras.Model
        Named ``unet``, from float32 (n, h * cell_px, w * cell_px, n_features) to logits, float32 (n, h, w, n_classes),
        for any h and w that are multiples of :func:`multiple`.

    Raises
    ------
    ValueError
        If a number is below 1.

    Notes
    -----
    Per level two 3 x 3 convolutions, each with a ReLU; 2 x 2 maximum pooling on the way down, 2 x 2 transposed
    convolutions that halve the number of maps on the way up, each joined with the maps of its level; and a last 1 x 1
    convolution.
    """
    # CHOICE: convolutions are padded (`same`), so that output and input have one grid: the original loses a margin of
    # 92 pixels, which a map of 32 cells does not have
    # ASSUME no batch normalisation, which the original has not: statistics of canvases that are mostly empty would say
    # little. ASSUME no dropout either: the original's stands for more data, and end-to-end learning must have none
    import keras

    for name, value in (("filters", filters), ("depth", depth), ("cell_px", cell_px)):
        if value < 1:
            raise ValueError(f"a U-Net's {name} must be 1 or more; found {value}")
    layers = keras.layers

    def convolved(x: Any, level: int, way: str) -> Any:
        for number in (1, 2):
            name = f"{way}_{level}_conv_{number}"
            x = layers.Conv2D(filters * 2**level, 3, padding="same", activation="relu", name=name, dtype="float32")(x)
        return x

    given = keras.Input((None, None, n_features), name="maps")
    x, skipped = given, []
    for level in range(depth):
        x = convolved(x, level, "down")
        skipped.append(x)
        x = layers.MaxPooling2D(2, name=f"down_{level}_pool", dtype="float32")(x)
    x = convolved(x, depth, "bottom")
    for level in reversed(range(depth)):
        x = layers.Conv2DTranspose(filters * 2**level, 2, strides=2, name=f"up_{level}", dtype="float32")(x)
        x = layers.Concatenate(name=f"up_{level}_joined", dtype="float32")([skipped[level], x])
        x = convolved(x, level, "up")
    x = layers.Conv2D(n_classes, 1, name="logits", dtype="float32")(x)
    if cell_px > 1:
        x = layers.AveragePooling2D(cell_px, name="cells", dtype="float32")(x)
    model = keras.Model(given, x, name=NAME)
    _draw_weights(model, seed)
    return model


def _draw_weights(model: Any, seed: int) -> None:
    """Draw every kernel from a normal distribution of deviation sqrt(2 / N) (section 3): N nodes come into a neuron."""
    import keras
    import numpy as np

    random_weights.draw_weights(model.layers, seed=seed, initialisation=Initialisation("he"))
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2DTranspose):
            # its kernel is (2, 2, out, in), of which draw_weights counts 2 * 2 * out; windows do not overlap, so N is
            # `in`
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel * np.float32(np.sqrt(math.prod(kernel.shape[:3]) / kernel.shape[3])), bias])


def cell_loss(logits: Any, labels: Any) -> tuple[Any, Any, Any, Any]:
    """Return the softmax cross-entropy of labelled cells, with ``keras.ops``; cells without a label do not count.

    Parameters
    ----------
    logits : tensor of float32, shape (..., n_classes)
    labels : tensor of int32, shape (...)
        Below 0 for a cell without a label.

    Returns
    -------
    mean : scalar tensor
        Mean over labelled cells of ``-log p(true class)``; 0 where there is none.
    total : scalar tensor
        Their sum.
    correct, n : scalar tensors of float32
        Labelled cells that are predicted correctly, and all.
    """
    from keras import ops

    logits = ops.cast(logits, "float32")
    labels = ops.cast(labels, "int32")
    labelled = labels >= 0
    of_true = ops.sum(logits * ops.one_hot(ops.maximum(labels, 0), logits.shape[-1], dtype="float32"), axis=-1)
    total = ops.sum(ops.where(labelled, ops.logsumexp(logits, axis=-1) - of_true, 0.0))
    hit = ops.logical_and(labelled, ops.equal(ops.cast(ops.argmax(logits, axis=-1), "int32"), labels))
    n = ops.sum(ops.cast(labelled, "float32"))
    return total / ops.maximum(n, 1.0), total, ops.sum(ops.cast(hit, "float32")), n


def step_loss(outputs: Sequence[Any], labels: Any) -> tuple[Any, Any, Any]:
    """Return the loss of a step on maps, as :func:`histotransfer.backends.compiled.compiled_train_step` takes it.

    Parameters
    ----------
    outputs : list of one tensor
        Logits, float32 (n, h, w, n_classes).
    labels : tensor of int32, shape (n, h, w)

    Returns
    -------
    objective, loss, correct : scalar tensors
        The mean over labelled cells; their sum by the number of maps, since a step is counted once a map; and the cells
        that are predicted correctly.
    """
    from keras import ops

    # every labelled cell of the batch weighs alike, whichever map it lies on
    objective, total, correct, _ = cell_loss(outputs[0], labels)
    return objective, total / ops.cast(ops.shape(labels)[0], "float32"), correct
