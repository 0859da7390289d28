"""The cells of maps: read, padded, turned and put into batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from histotransfer.definitions import Augmentation
from histotransfer.predictions import NO_LABEL
from histotransfer.segmentation import feature_maps
from histotransfer.segmentation.feature_maps import Piece
from histotransfer.segmentation.maps import Maps
from histotransfer.tables import slide_images, tile_table
from histotransfer.training.augmentation import AXES_FLIPPED

#: Features of all tiles are held in memory up to so many bytes, else read map by map: 16 values a tile of four million
#: tiles stay in memory, 1,024 of a hundred thousand do not. Maps themselves, mostly empty, are made batch by batch.
_HELD_BYTES = 1 << 28


def mean_and_deviation(
    values_of: Callable[[np.ndarray], np.ndarray], pieces: Sequence[Piece]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and standard deviation of each feature over the tiles of some maps.

    Parameters
    ----------
    values_of : callable
        ``values_of(rows)``: features of some tiles, float32 (n, d).
    pieces : sequence of Piece

    Returns
    -------
    mean, sd : ndarray of float32, shape (d,)
        Over all tiles on the canvases, with a label or without; 1 where a feature is constant.
    """
    total, n = 0.0, 0
    low, high = np.inf, -np.inf
    for piece in pieces:
        values = values_of(piece.rows).astype(np.float64)
        total, n = total + values.sum(axis=0), n + len(values)
        low, high = np.minimum(low, values.min(axis=0)), np.maximum(high, values.max(axis=0))
    mean = total / n
    squares = sum(np.square(values_of(piece.rows) - mean).sum(axis=0) for piece in pieces)
    sd = np.where(low == high, 1.0, np.sqrt(squares / n))
    return mean.astype(np.float32), sd.astype(np.float32)


class FeatureCells:
    """Features of tiles as maps.

    Parameters
    ----------
    table : TileIndex
        Of features of networks.
    """

    cell_px = 1

    def __init__(self, table: tile_table.TileIndex) -> None:
        self._table = table
        holds = len(table.tile) * table.n_features * 4 <= _HELD_BYTES
        self._held = table.matrix.read(table.place) if holds else None

    def values(self, rows: np.ndarray) -> np.ndarray:
        """Return the features of some tiles, float32 (n, n_features)."""
        return self._table.matrix.read(self._table.place[rows]) if self._held is None else self._held[rows]

    def map(self, piece: Piece) -> np.ndarray:
        """Return a map of features, and of where tiles are: float32 (size, size, n_features + 1)."""
        return feature_maps.canvas_of(self.values(piece.rows), piece)


class PictureCells:
    """Slides at low resolution as maps.

    Parameters
    ----------
    table : TileIndex
        Of slide images.
    """

    def __init__(self, table: tile_table.TileIndex) -> None:
        self._images: slide_images.ImageIndex = table.matrix
        self.cell_px = self._images.cell_px

    def map(self, piece: Piece) -> np.ndarray:
        """Return the slide under a canvas, other pieces there too: uint8 (size * cell_px, size * cell_px, 3)."""
        return self._images.window(piece.image, first_row=piece.first_row, first_col=piece.first_col, size=piece.size)


def padded(maps: Sequence[np.ndarray], labels: Sequence[np.ndarray], fill: int) -> tuple[np.ndarray, np.ndarray]:
    """Return maps of several sizes as one batch of the largest, each in the middle.

    Parameters
    ----------
    maps : sequence of ndarray, shapes (size * cell_px, size * cell_px, d)
    labels : sequence of ndarray of int32, shapes (size, size)
    fill : int
        What stands around a map; around labels it is -1.

    Returns
    -------
    maps : ndarray of shape (n, largest * cell_px, largest * cell_px, d)
    labels : ndarray of int32, shape (n, largest, largest)
    """
    largest = max(map(len, labels))
    cell_px = len(maps[0]) // len(labels[0])
    edge = largest * cell_px
    batch = np.full((len(maps), edge, edge, maps[0].shape[2]), fill, maps[0].dtype)
    of_cells = np.full((len(maps), largest, largest), NO_LABEL, np.int32)
    for k, (map_, label_map) in enumerate(zip(maps, labels, strict=True)):
        first, size = (largest - len(label_map)) // 2, len(label_map)
        of_cells[k, first : first + size, first : first + size] = label_map
        first, size = first * cell_px, size * cell_px
        batch[k, first : first + size, first : first + size] = map_
    return batch, of_cells


class Turn(NamedTuple):
    """How a map is turned, by quarters against the clock, and then flipped."""

    quarter_turns: int = 0
    left_right: bool = False
    up_down: bool = False

    def apply(self, map_: np.ndarray) -> np.ndarray:
        """Return a map turned and flipped: (size, size) or (size, size, d)."""
        map_ = np.rot90(map_, self.quarter_turns)
        map_ = map_[:, ::-1] if self.left_right else map_
        return map_[::-1] if self.up_down else map_


def draw_turns(augmentation: Augmentation | None, n: int, generator: np.random.Generator) -> list[Turn]:
    """Draw how each of n maps is turned and flipped.

    Parameters
    ----------
    augmentation : Augmentation or None
        ``quarter_turns`` and ``flip`` are used; None turns and flips nothing.
    n : int
    generator : numpy.random.Generator
    """
    wanted = augmentation or Augmentation()
    turns, flips = generator.integers(0, 4, n), generator.integers(0, 2, (n, 2)).astype(bool)
    n_flips = AXES_FLIPPED[wanted.flip]
    return [
        Turn(
            quarter_turns=int(turn) if wanted.quarter_turns else 0,
            left_right=bool(flip[0]) and n_flips > 0,
            up_down=bool(flip[1]) and n_flips > 1,
        )
        for turn, flip in zip(turns, flips, strict=True)
    ]


def batches(
    cells: FeatureCells | PictureCells,
    maps: Maps,
    augmentation: Augmentation | None,
    rows: np.ndarray,
    batch: int,
    generator: np.random.Generator | None,
) -> Generator[tuple[np.ndarray, np.ndarray], None, None]:
    """Yield maps and their labels to train on, as :attr:`histotransfer.training.learner.Learner.read` does.

    Parameters
    ----------
    cells : FeatureCells or PictureCells
    maps : Maps
    augmentation : Augmentation or None
    rows : ndarray of int
        Maps, in the order wanted.
    batch : int
    generator : numpy.random.Generator or None
        Of the epoch; None varies nothing.
    """
    turns = draw_turns(None if generator is None else augmentation, len(rows), generator or np.random.default_rng(0))
    fill = slide_images.GLASS if isinstance(cells, PictureCells) else 0

    def made(start: int) -> tuple[np.ndarray, np.ndarray]:
        pieces = [(maps.trained[k], turn) for k, turn in zip(rows[start : start + batch], turns[start:], strict=False)]
        return padded(
            [turn.apply(cells.map(piece)) for piece, turn in pieces],
            [turn.apply(feature_maps.label_map(maps.label[piece.rows], piece)) for piece, turn in pieces],
            fill,
        )

    # a batch is made while the one before it is computed
    with ThreadPoolExecutor(1) as pool:
        pending = deque([pool.submit(made, 0)] if len(rows) else [])
        for start in range(batch, len(rows) + batch, batch):
            if start < len(rows):
                pending.append(pool.submit(made, start))
            yield pending.popleft().result()
