"""Maps of a dataset's slides laid out on canvases, with labels and sets."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from histotransfer import store
from histotransfer.definitions import Canvas
from histotransfer.feature_kinds import FeatureSet
from histotransfer.predictions import NO_LABEL
from histotransfer.segmentation import feature_maps
from histotransfer.segmentation.feature_maps import Piece
from histotransfer.tables import tile_table
from histotransfer.training.job import Job
from histotransfer.training.tiles import TrainingData

log = logging.getLogger("histotransfer")


@dataclass(frozen=True)
class Maps:
    """The maps of all slides, and which of their tiles are learnt from and scored.

    Attributes
    ----------
    trained : list of Piece
        Each map on the canvas that it has in training.
    whole : list of Piece
        The same maps on canvases that hold all of their tiles: for predicting.
    set : ndarray of str, shape (n_maps,)
    label : ndarray of int32, shape (n_tiles,)
        Of each tile of the table; -1 where it has no label or is left out: by a cap, or because the canvas cuts it off
        in training.
    tiles : dict of str to ndarray of int
        Tiles that count, by set, as places in the table.
    rows : dict of str to ndarray of int
        Maps with such a tile, by set.
    """

    trained: list[Piece]
    whole: list[Piece]
    set: np.ndarray
    label: np.ndarray
    tiles: dict[str, np.ndarray]
    rows: dict[str, np.ndarray]

    @property
    def labels(self) -> np.ndarray:
        """Labels of the tiles of each map, as :func:`histotransfer.training.tiles.labels_of` takes them."""
        labels = np.empty(len(self.whole), object)
        for k, piece in enumerate(self.whole):
            labels[k] = self.label[piece.rows].astype(np.int64)
        return labels


def read(
    job: Job, features: Sequence[str], feature_set: FeatureSet, *, canvas: Canvas, multiple: int, canvases: str
) -> tuple[Maps, TrainingData]:
    """Read the tiles of a training on maps, lay them out, and begin: to be called before a network is built.

    Parameters
    ----------
    job : Job
    features : sequence of path
        Files of the feature set.
    feature_set : FeatureSet
    canvas : Canvas
    multiple : int
        What edges of canvases must be a multiple of: :func:`histotransfer.segmentation.unet.multiple`.
    canvases : path
        ``canvases.tsv`` to write.

    Returns
    -------
    maps : Maps
    data : TrainingData
        Its rows are maps.

    Raises
    ------
    ValueError
        If the canvas is not legal, or the tiles cannot be laid out or learnt from (:meth:`Job.read`,
        :func:`lay_out`, :meth:`Job.begin`).
    """
    feature_maps.check_canvas(canvas.size, canvas.per, multiple)
    table, rows = job.read(features, feature_set)
    maps = lay_out(table, rows, canvas=canvas, multiple=multiple)
    write_canvases(canvases, maps, name=job.name)
    data = TrainingData(table, maps.tiles, maps.label, maps.labels, maps.rows)
    job.begin(data)
    return maps, data


def lay_out(table: tile_table.TileIndex, rows: Mapping[str, np.ndarray], *, canvas: Canvas, multiple: int) -> Maps:
    """Lay the tiles of a table out on maps.

    Parameters
    ----------
    table : TileIndex
    rows : mapping
        See :func:`histotransfer.training.tiles.rows_of_sets`.
    canvas : Canvas
    multiple : int
        What edges of canvases must be a multiple of: :func:`histotransfer.segmentation.unet.multiple`.

    Returns
    -------
    Maps

    Raises
    ------
    ValueError
        If the canvas is not legal, or tiles of one slide lie in several sets.
    """
    _check_one_set(table)
    trained = feature_maps.layout(table.image, table.tile, size=canvas.size, per=canvas.per, multiple=multiple)
    whole = trained
    if any(len(piece.cut_off) for piece in trained):
        # ASSUME a piece that is larger than its canvas is predicted on the canvas that it needs: the network takes any
        # size, and every method is scored on the same tiles
        fit = feature_maps.FIT
        needed = feature_maps.layout(table.image, table.tile, size=fit, per=canvas.per, multiple=multiple)
        whole = [fits if len(piece.cut_off) else piece for piece, fits in zip(trained, needed, strict=True)]
    cut_off = np.zeros(len(table.tile), bool)
    for piece in trained:
        cut_off[piece.cut_off] = True
    tiles = {name: places[~cut_off[places]] if name == "train" else places for name, places in rows.items()}
    label = np.full(len(table.tile), NO_LABEL, np.int32)
    for places in tiles.values():
        label[places] = table.label[places]
    sets = np.array([table.set[piece.rows[0]] for piece in whole], dtype=object)
    # a map without any label has no loss
    counts = np.array([(label[piece.rows] != NO_LABEL).any() for piece in whole], bool)
    return Maps(
        trained=trained,
        whole=whole,
        set=sets,
        label=label,
        tiles=tiles,
        rows={name: np.flatnonzero((sets == name) & counts) for name in rows},
    )


def _check_one_set(table: tile_table.TileIndex) -> None:
    set_of: dict[str, str] = {}
    for image, name in zip(table.image.tolist(), table.set.tolist(), strict=True):
        other = set_of.setdefault(image, name)
        if other != name:
            raise ValueError(
                "the tiles of a map are seen together, so a slide must lie in one set: take a split by patient or by "
                f"slide; found tiles of {image} in {other} and in {name}"
            )


def write_canvases(path: str, maps: Maps, *, name: str) -> None:
    """Write ``canvases.tsv``, one row a map, and say in one line what canvases cut off.

    Parameters
    ----------
    path : path
    maps : Maps
    name : str
        Of the method, for the line.
    """
    store.write_table(path, feature_maps.COLUMNS, feature_maps.canvas_rows(maps.trained))
    cut = [piece for piece in maps.trained if len(piece.cut_off)]
    if cut:
        most = max(cut, key=lambda piece: len(piece.cut_off))
        log.warning(
            "%s: %d of %d maps are larger than their canvas of %d cells; %d tiles are cut off and not trained on, most "
            "(%d) of piece %d of %s; see %s",
            *(name, len(cut), len(maps.trained), most.size, sum(len(piece.cut_off) for piece in cut)),
            *(len(most.cut_off), most.number, most.image, path),
        )
