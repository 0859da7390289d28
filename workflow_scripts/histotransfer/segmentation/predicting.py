"""What a network on maps predicts for tiles."""

from __future__ import annotations

from typing import Any

import numpy as np

from histotransfer.backends import compiled
from histotransfer.predictions import NO_LABEL
from histotransfer.segmentation import feature_maps
from histotransfer.segmentation.cells import FeatureCells, PictureCells
from histotransfer.segmentation.maps import Maps


class Predictor:
    """Predicts the tiles of maps by the present weights of a network.

    Parameters
    ----------
    evaluated : keras.Model
        From maps to logits.
    cells : FeatureCells or PictureCells
    maps : Maps
    batch : int
        Most maps that are predicted together. Only maps of one size are, so that no prediction depends on the size of
        another map.
    """

    def __init__(self, evaluated: Any, cells: FeatureCells | PictureCells, maps: Maps, batch: int) -> None:
        self._cells, self._maps, self._batch = cells, maps, batch
        self._forward = compiled.compiled_forward(evaluated, 0, batch=batch)
        self._n_classes = int(evaluated.outputs[0].shape[-1])
        self._map_of = np.empty(len(maps.label), np.int64)
        for k, piece in enumerate(maps.whole):
            self._map_of[piece.rows] = k

    def evaluate(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return logits and true classes of the labelled tiles of some maps.

        See :class:`histotransfer.training.learner.Learner`.
        """
        tiles = np.concatenate([np.empty(0, np.int64), *(self._maps.whole[k].rows for k in rows)])
        tiles = tiles[self._maps.label[tiles] != NO_LABEL]
        return self.logits(tiles), self._maps.label[tiles].astype(np.int64)

    def logits(self, tiles: np.ndarray) -> np.ndarray:
        """Return the logits of some tiles of the table, float64 (n, n_classes)."""
        logits = np.empty((len(self._maps.label), self._n_classes))
        needed = np.unique(self._map_of[tiles])
        sizes = np.array([self._maps.whole[k].size for k in needed])
        for size in np.unique(sizes):
            alike = needed[sizes == size]
            for start in range(0, len(alike), self._batch):
                pieces = [self._maps.whole[k] for k in alike[start : start + self._batch]]
                [of_maps] = self._forward(np.stack([self._cells.map(piece) for piece in pieces]))
                for piece, of_map in zip(pieces, of_maps, strict=True):
                    logits[piece.rows] = feature_maps.gather(of_map, piece)
        return logits[tiles]
