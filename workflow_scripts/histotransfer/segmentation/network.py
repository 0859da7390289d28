"""A segmentation network with its own standardisation in front, and its file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from histotransfer.definitions import EndToEnd, Unet
from histotransfer.networks.trained import load_trained
from histotransfer.segmentation import unet

#: Names of the layers of a saved network, in order; ``unet`` between them.
FRONT, STANDARDISE, PROBABILITY = "front", "standardise", "probability"


@dataclass(frozen=True)
class Network:
    """A U-Net and what stands before and behind it.

    Attributes
    ----------
    unet : keras.Model
        From what `front` gives to the logits, float32 (n, h, w, n_classes).
    front : keras.Model
        From maps as they are made to what the U-Net takes.
    evaluated : keras.Model
        From maps as they are made to the logits.
    model : keras.Model
        From maps as they are made to probabilities: what is saved.
    """

    unet: Any
    front: Any
    evaluated: Any
    model: Any


def attach(
    network: Any, *, mean: np.ndarray | None = None, sd: np.ndarray | None = None, picture: bool = False
) -> Network:
    """Put what a U-Net needs before and behind it, so that a saved one takes maps as they are.

    Parameters
    ----------
    network : keras.Model
        As :func:`unet.build_unet` builds it.
    mean, sd : ndarray of float32, shape (n_features,), optional
        By which features are standardised.
    picture : bool
        Whether it is one on slides at low resolution.

    Returns
    -------
    Network
        On features, float32 (n, h, w, n_features + 1): those of each tile at its cell and 0 elsewhere, and last a plane
        that is 1 where a tile is and 0 elsewhere. Features are standardised, and empty cells stay 0: by the last
        plane they differ from tiles whose features are all 0. On pictures, uint8 (n, h * cell_px, w * cell_px, 3).
    """
    import keras

    n = int(network.inputs[0].shape[-1])
    if picture:
        given = keras.Input((None, None, n), dtype="uint8", name="pictures")
        # ASSUME darkness, from 0 to 1: glass is then 0, as an empty cell of a map of features is, and as what a
        # convolution finds beyond the edge
        x = keras.layers.Rescaling(-1 / 255, offset=1.0, name="darkness", dtype="float32")(given)
    else:
        given = keras.Input((None, None, n + 1), name="maps")
        # layers with names, where slices and products have numbers of the process in them: the same network gives the
        # same file. Channels named first, a cropping of two dimensions is one of a map's columns and its last axis
        taken = partial(keras.layers.Cropping2D, data_format="channels_first", dtype="float32")
        x = taken(((0, 0), (0, 1)), name="features")(given)
        if mean is not None:
            variance = np.square(np.asarray(sd, np.float32))
            layer = keras.layers.Normalization(
                axis=-1, mean=np.asarray(mean, np.float32), variance=variance, name=STANDARDISE, dtype="float32"
            )
            tiles = taken(((0, 0), (n, 0)), name="tiles")(given)
            x = keras.layers.Multiply(name="empty_cells", dtype="float32")([layer(x), tiles])
    front = keras.Model(given, x, name=FRONT)
    entered = keras.Input(given.shape[1:], dtype=given.dtype, name=given.name)
    logits = network(front(entered))
    return Network(
        unet=network,
        front=front,
        evaluated=keras.Model(entered, logits),
        model=keras.Model(
            entered, keras.layers.Softmax(name=PROBABILITY, dtype="float32")(logits), name="segmentation"
        ),
    )


def without_training(classifier: Unet | EndToEnd) -> dict[str, Any]:
    """Return what a classifier says of its U-Net and not of its training, as a checkpoint keeps it."""
    return {
        "kind": classifier.kind,
        "filters": classifier.filters,
        "depth": classifier.depth,
        "standardise": classifier.standardise,
    }


def load(path: str) -> tuple[Any, np.ndarray | None, np.ndarray | None]:
    """Load a U-Net on maps of features from the file that its training wrote.

    Parameters
    ----------
    path : path
        A ``model.keras``.

    Returns
    -------
    network : keras.Model
        The U-Net alone, from standardised maps to logits.
    mean, sd : ndarray of float32, shape (n_features,), or None
        By which :func:`attach` standardises.

    Raises
    ------
    ValueError
        If the file is refused, or is no such network.
    """
    model = load_trained(path)
    found = [layer.name for layer in model.layers]
    if found[1:] != [FRONT, unet.NAME, PROBABILITY] or model.inputs[0].dtype != "float32":
        raise ValueError(
            f"segmentation network {path}: must be a U-Net on maps of features, with the layers {FRONT}, {unet.NAME} "
            f"and {PROBABILITY}; found {', '.join(found)}"
        )
    for layer in model.get_layer(FRONT).layers:
        if layer.name == STANDARDISE:
            mean, variance = (
                np.asarray(values, np.float32).reshape(-1) for values in (layer.input_mean, layer.input_variance)
            )
            return model.get_layer(unet.NAME), mean, np.sqrt(variance)
    return model.get_layer(unet.NAME), None, None
