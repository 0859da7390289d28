"""The two networks of end-to-end learning and the slide that they are measured on, as the processes here load them."""

from typing import Any, NamedTuple

import measuring
import numpy as np

from histotransfer.segmentation import end_to_end, feature_maps
from histotransfer.tables import tile_pixels


class Joined(NamedTuple):
    """Networks, the tiles of a slide, where they lie, and their classes on the map."""

    pair: end_to_end.Pair
    tiles: tile_pixels.TilePixels
    piece: feature_maps.Piece
    of_cells: np.ndarray


def load(given: dict[str, Any]) -> Joined:
    """Load what `given` names: networks and their layer, pixels, the recipe, px of the tiles, canvas in cells."""
    pair = measuring.call(
        end_to_end.load_pair,
        **given["networks"],
        source=given["source"],
        px_stored=given["px"],
        n_classes=2,
        recipe=given["recipe"],
    )
    tiles = tile_pixels.open_tiles([given["pixels"]])
    [piece] = feature_maps.layout(tiles.image, tiles.tile, size=given["canvas"], per="slide", multiple=8)
    return Joined(pair, tiles, piece, feature_maps.label_map(np.arange(len(piece.rows)) % 2, piece))
