"""Heads: the layers that are put on a network's layer or on cached features, and the weights of a trained head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from histotransfer.definitions import Head
from histotransfer.networks.trained import load_trained


@dataclass(frozen=True)
class HeadLayers:
    """The layers of a head.

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
    wanted: Head, n_classes: int, *, dimensions: int, n_auxiliary: int = 0, dropout_seed: int = 0
) -> HeadLayers:
    """Return the layers of a recipe's head; they have no weights until they are called.

    Parameters
    ----------
    wanted : Head
        Its dropout comes before each dense layer, the output layer too.
    n_classes : int
    dimensions : int
        4 where the head stands on maps, 2 where on features.
    n_auxiliary : int
        Auxiliary outputs of the network, each of which gets an output layer.
    dropout_seed : int

    Returns
    -------
    HeadLayers
        Dense layers are ``head_1``, ``head_2``, ..., ``logits`` and ``auxiliary_1``, ...; all in float32, whatever the
        precision of the network below.
    """
    import keras

    layers: list[Any] = []
    if dimensions == 4 and wanted.pool == "average":
        layers.append(keras.layers.GlobalAveragePooling2D(name="pool", dtype="float32"))
    elif dimensions == 4:
        layers.append(keras.layers.Flatten(name="pool", dtype="float32"))
    sizes = [*wanted.dense, n_classes]
    for number, width in enumerate(sizes, start=1):
        if wanted.dropout:
            seed = dropout_seed + number
            layers.append(keras.layers.Dropout(wanted.dropout, seed=seed, name=f"dropout_{number}", dtype="float32"))
        last = number == len(sizes)
        layers.append(
            keras.layers.Dense(
                width,
                activation=None if last else wanted.activation,
                name="logits" if last else f"head_{number}",
                dtype="float32",
            )
        )
    return HeadLayers(
        layers=layers,
        probability=keras.layers.Softmax(name="probability", dtype="float32"),
        auxiliary=[
            keras.layers.Dense(n_classes, name=f"auxiliary_{number}", dtype="float32")
            for number in range(1, n_auxiliary + 1)
        ],
    )


def load_head(head: HeadLayers, path: str) -> None:
    """Give a head the weights of one that was trained on features.

    Parameters
    ----------
    head : HeadLayers
        With weights, so after it has been called.
    path : path
        A ``head.keras`` of :func:`histotransfer.training.head_on_features.train_head`.

    Raises
    ------
    ValueError
        If the file is refused, or has other layers: the file and the layer are named.
    """
    trained = {layer.name: layer for layer in load_trained(path).layers if layer.weights}
    needed = {layer.name: layer for layer in head.layers if layer.weights}
    if list(trained) != list(needed):
        raise ValueError(f"head {path}: its layers must be {', '.join(needed)}; found {', '.join(trained)}")
    for name, layer in needed.items():
        expected, found = ([tuple(weight.shape) for weight in each.weights] for each in (layer, trained[name]))
        if found != expected:
            raise ValueError(f"head {path}: the weights of {name} must have the shapes {expected}; found {found}")
        layer.set_weights(trained[name].get_weights())
