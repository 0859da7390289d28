"""The network whose features become the cells of a map, as a part of end-to-end learning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from histotransfer.backends import compiled
from histotransfer.networks.specification import NetworkSpec
from histotransfer.networks.trained import load_trained, trained_features
from histotransfer.segmentation import feature_maps
from histotransfer.segmentation.feature_maps import Piece
from histotransfer.tables import tile_pixels
from histotransfer.training import augmentation

#: The groups of weights that have rates of their own.
EXTRACTOR, UNET = "extractor", "unet"


@dataclass(frozen=True)
class TrainedLayer:
    """A layer of a trained network, whose outputs are the vectors of tiles.

    Attributes
    ----------
    network_name : str
        The trained network's, among ``networks``.
    start : NetworkSpec
        What its training began with.
    start_name : str
        The start's name.
    layer : str or None
        A dense layer of its head (``head_1``), or a cut point, whose averages are taken; None: the start's own.
    """

    network_name: str
    start: NetworkSpec
    start_name: str
    layer: str | None = None


@dataclass(frozen=True)
class Extractor:
    """A trained network up to one of its layers.

    Attributes
    ----------
    trained : keras.Model
        From preprocessed tiles, float32 (n, px, px, 3), to vectors, float32 (n, d).
    evaluated : keras.Model
        From stored tiles, uint8 (n, px_stored, px_stored, 3), to the same vectors.
    prepare : callable
        ``prepare(stored, drawn)``: from stored tiles to what `trained` takes, varied as drawn.
    px, px_stored, n_features : int
    """

    trained: Any
    evaluated: Any
    prepare: Callable[[Any, Mapping[str, Any]], Any]
    px: int
    px_stored: int
    n_features: int


def build_extractor(path: str, *, start: NetworkSpec, layer: str | None) -> Extractor:
    """Load a trained network and leave out what lies above a layer: its output layer is of no use (section 3.2.2).

    Parameters
    ----------
    path : path
        ``model.keras`` of :func:`histotransfer.training.network_on_tiles.train_network`.
    start : NetworkSpec
    layer : str or None
        See :class:`TrainedLayer`.

    Returns
    -------
    Extractor
        In float32, whatever the network was trained in.

    Raises
    ------
    ValueError
        If the file is refused, or the network has no such layer.
    OSError
        If it cannot be read.
    """
    import keras

    model = load_trained(path)
    layer = layer or start.layer
    try:
        # the input, the image layers, the part of the trunk that is needed, and more
        _, image, part, *_ = trained_features(model, start, names=[layer]).layers
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    # its last output is the cut point, or what the head takes
    trunk = keras.Model(part.input, part.outputs[-1], name="trunk")
    given = keras.Input(trunk.input_shape[1:], name="preprocessed")
    vectors = trunk(given)
    names = [each.name for each in model.layers]
    if layer in names:
        for above in model.layers[names.index("trunk") + 1 : names.index(layer) + 1]:
            vectors = above(vectors)
    elif len(vectors.shape) == 4:
        vectors = keras.layers.GlobalAveragePooling2D(name="pool", dtype="float32")(vectors)
    trained = keras.Model(given, vectors, name=EXTRACTOR)
    tiles = keras.Input(model.input_shape[1:], dtype="uint8", name="tiles")
    preprocess = _without_crop(image)
    px = int(trunk.input_shape[1])

    def prepare(stored: Any, drawn: Mapping[str, Any]) -> Any:
        return preprocess(augmentation.apply(stored, drawn, px=px))

    return Extractor(
        trained=trained,
        evaluated=keras.Model(tiles, trained(image(tiles)), name="trained-extractor"),
        prepare=prepare,
        px=px,
        px_stored=int(model.input_shape[1]),
        n_features=int(vectors.shape[-1]),
    )


def _without_crop(image: Any) -> Any:
    """Return the image layers of a network from grey values in float32 on, after the crop: with the very same means."""
    import keras

    cast = next(operation for operation in image.operations if type(operation).__name__ == "Cast")
    return keras.Model(cast.output, image.output)


class ExtractedCells:
    """Maps of the vectors that an extractor makes, by its present weights, of the middle of stored tiles.

    Parameters
    ----------
    extractor : Extractor
    tiles : TilePixels
    place : ndarray of int, shape (n_tiles,)
        Where each tile of the table is among the pixels.
    batch : int
        Tiles of a pass.
    """

    def __init__(self, extractor: Extractor, tiles: tile_pixels.TilePixels, place: np.ndarray, batch: int) -> None:
        self._tiles, self._place, self._batch = tiles, place, batch
        self._forward = compiled.compiled_forward(extractor.evaluated, extractor.px_stored, batch=batch)

    def map(self, piece: Piece) -> np.ndarray:
        """Return a map: see :func:`histotransfer.segmentation.feature_maps.canvas_of`."""
        with closing(tile_pixels.stream(self._tiles, self._place[piece.rows], self._batch)) as blocks:
            return feature_maps.canvas_of(np.concatenate([self._forward(block)[0] for _, block in blocks]), piece)
