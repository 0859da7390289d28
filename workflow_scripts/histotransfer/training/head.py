"""Heads: what is put on a network's layer, and how it is trained on cached features without a network or a pixel."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from histotransfer.networks.trained import load_trained

log = logging.getLogger("histotransfer")


#: Threads that arithmetic is spread over, whatever a job is given: another number adds in another order, and training
#: soon comes to other weights (seen after 12 steps of MobileNetV2), so the same study would differ between computers.
# ASSUME 2, which every computer has; a training that needs more has a GPU, where this number does not matter
THREADS = 2


@dataclass(frozen=True)
class Head:
    """The layers of a head, built.

    Attributes
    ----------
    layers : list of keras.Layer
        From the pooling to ``logits``, in order; without the pooling for a head on features.
    probability : keras.Layer
        The softmax.
    auxiliary : list of keras.Layer
        The output layers of a network's auxiliary outputs.
    """

    layers: list[Any]
    probability: Any
    auxiliary: list[Any]

    @property
    def all(self) -> list[Any]:
        """Every layer, in the order in which weights are drawn."""
        return [*self.layers, self.probability, *self.auxiliary]

    def __call__(self, x: Any) -> Any:
        """Return the logits, symbolic, float32."""
        for layer in self.layers:
            x = layer(x)
        return x


def build_head(
    recipe: Mapping[str, Any],
    n_classes: int,
    *,
    dimensions: int,
    n_auxiliary: int = 0,
    dropout_seed: int = 0,
) -> Head:
    """Return the layers of a recipe's head; they have no weights until they are called.

    Parameters
    ----------
    recipe : mapping
        ``head``: ``pool`` (of maps: ``average`` or ``flatten``), ``dense`` (widths), ``activation``, ``dropout``
        (before each dense layer, that of the output too).
    n_classes : int
    dimensions : int
        4 where the head stands on maps, 2 where on features.
    n_auxiliary : int
        Auxiliary outputs of the network, each of which gets an output layer.
    dropout_seed : int

    Returns
    -------
    Head
        Dense layers are ``head_1``, ``head_2``, ..., ``logits`` and ``auxiliary_1``, ...; all in float32, whatever the
        precision of the network below.
    """
    import keras

    wanted = recipe["head"]
    layers: list[Any] = []
    if dimensions == 4 and wanted["pool"] == "average":
        layers.append(keras.layers.GlobalAveragePooling2D(name="pool", dtype="float32"))
    elif dimensions == 4:
        layers.append(keras.layers.Flatten(name="pool", dtype="float32"))
    sizes = [*wanted["dense"], n_classes]
    for number, width in enumerate(sizes, start=1):
        if wanted["dropout"]:
            seed = dropout_seed + number
            layers.append(keras.layers.Dropout(wanted["dropout"], seed=seed, name=f"dropout_{number}", dtype="float32"))
        last = number == len(sizes)
        layers.append(
            keras.layers.Dense(
                width,
                activation=None if last else wanted["activation"],
                name="logits" if last else f"head_{number}",
                dtype="float32",
            )
        )
    return Head(
        layers=layers,
        probability=keras.layers.Softmax(name="probability", dtype="float32"),
        auxiliary=[
            keras.layers.Dense(n_classes, name=f"auxiliary_{number}", dtype="float32")
            for number in range(1, n_auxiliary + 1)
        ],
    )


def load_head(head: Head, path: str) -> None:
    """Give a head the weights of one that was trained on features.

    Parameters
    ----------
    head : Head
        Built.
    path : path
        A ``head.keras`` of :func:`train_head`.

    Raises
    ------
    ValueError
        If the file is refused, or has other layers: the file and the layer are named.
    """
    found = {layer.name: layer for layer in load_trained(path).layers if layer.weights}
    own = {layer.name: layer for layer in head.layers if layer.weights}
    if list(found) != list(own):
        raise ValueError(f"head {path}: its layers must be {', '.join(own)}; found {', '.join(found)}")
    for name, layer in own.items():
        shapes = [[tuple(weight.shape) for weight in one.weights] for one in (layer, found[name])]
        if shapes[0] != shapes[1]:
            raise ValueError(f"head {path}: the weights of {name} must have the shapes {shapes[0]}; found {shapes[1]}")
        layer.set_weights(found[name].get_weights())
