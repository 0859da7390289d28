"""The table that every classifier learns from: one row a tile, its features, label, group, set and fold."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from histotransfer import seeds, store
from histotransfer.cohort import splits
from histotransfer.definitions import Factors, LearningTables, Split
from histotransfer.feature_kinds import FeatureSet, Layers, SlideImage, StoredTiles, WindowSet
from histotransfer.predictions import NO_LABEL
from histotransfer.tables import feature_matrix, slide_images, tile_pixels, windows
from histotransfer.tables.columns import Columns

#: Columns of a table that are no features.
_DESCRIBING = ("tile", "image", "slide", "group", "label", "set", "fold")
#: Rows looked at together.
_BLOCK = 256


@dataclass(frozen=True)
class Tiles:
    """Tiles with their labels and their places in the split.

    Attributes
    ----------
    tile, image, slide, group : ndarray of str, shape (n,)
    label : ndarray of int16, shape (n,)
        Index into the task's classes; -1 without a label.
    set : ndarray of str, shape (n,)
        ``train``, ``validation`` or ``test``.
    fold : ndarray of int16, shape (n,)
        -1 in the test set.
    unit : str
        What a group is.
    attributes : dict
        Of the features: network, weights, untrained and more.
    columns : list of Columns
        Of the whole matrix: which layer of which network fills which columns, whichever of them were read.
    """

    tile: np.ndarray
    image: np.ndarray
    slide: np.ndarray
    group: np.ndarray
    label: np.ndarray
    set: np.ndarray
    fold: np.ndarray
    unit: str
    attributes: dict[str, Any]
    columns: list[Columns]


@dataclass(frozen=True)
class TileTable(Tiles):
    """Tiles with features, in the order in which they were asked for.

    Attributes
    ----------
    features : ndarray, shape (n, n_features)
        float32, or uint8 where they are windows of the pixels; the pixels themselves are uint8 (n, px, px, 3).
    """

    features: np.ndarray

    def rows(self, chosen: np.ndarray) -> TileTable:
        """Return the rows of a mask or of indices; features are copied."""
        return replace(self, features=self.features[chosen], **_taken(self, chosen))


@dataclass(frozen=True)
class TileIndex(Tiles):
    """A :class:`TileTable` without its features, sorted by image and tile, whatever the order of the files.

    Attributes
    ----------
    matrix : MatrixIndex, WindowIndex, TilePixels or ImageIndex
        What reads the features; the last has none of tiles, but whole slides at low resolution.
    place : ndarray of int, shape (n,)
        Each tile's row in `matrix`.
    """

    matrix: Any
    place: np.ndarray

    @property
    def n_features(self) -> int:
        """Number of columns of the whole matrix."""
        return self.matrix.n_features

    def rows(self, chosen: np.ndarray, columns: np.ndarray | None = None) -> TileTable:
        """Read the features of some rows.

        Parameters
        ----------
        chosen : ndarray of bool or int
            A mask, or indices in the order wanted.
        columns : ndarray of int, optional
            Columns of the whole matrix, in the order wanted; by default all.

        Raises
        ------
        ValueError
            If a feature is not finite, naming file and tile.
        """
        return TileTable(
            features=self.matrix.read(self.place[chosen], columns),
            **_taken(self, chosen),
            unit=self.unit,
            attributes=self.attributes,
            columns=self.columns,
        )


def read(
    *,
    features: Sequence[str],
    tables: LearningTables,
    split: Split,
    feature_set: FeatureSet,
    classes: Sequence[str],
    master_seed: int,
) -> TileIndex:
    """Join the features' tiles, labels and split by image and tile.

    Parameters
    ----------
    features : sequence of path
        Manifests of the shards of every network of the set; of windows or pixels, pixel files; of images, slide images.
    tables : LearningTables
        Images that are not ``ok`` in the cohort's table are left out, though this network could read them.
    split : Split
    feature_set : FeatureSet
        What is read: features of layers (:func:`feature_matrix.open_matrix`), random windows
        (:func:`windows.open_windows`), stored tiles (:func:`tile_pixels.open_tiles`) or slide images
        (:func:`slide_images.open_images`).
    classes : sequence of str
        In declared order.
    master_seed : int
        What windows are drawn from.

    Raises
    ------
    ValueError
        If a tile has no row in the label tables, a label is no class of the task, the features do not fit together
        (:func:`feature_matrix.open_matrix`), or the split is not kept (:func:`splits.read`).
    """
    matrix = _open(features, feature_set, master_seed)
    rows_of = _label_rows(tables.labels, classes)
    usable = {row["image"] for row in store.read_table(tables.slides_table) if row["status"] == "ok"}
    keys = list(zip(matrix.image, matrix.tile, strict=True))
    order = sorted((k for k in range(len(keys)) if keys[k][0] in usable), key=keys.__getitem__)
    if not order:
        legal = "training needs images with status 'ok' that have features"
        raise ValueError(f"{tables.slides_table}: {legal}; found none")
    without = [keys[k] for k in order if keys[k] not in rows_of]
    if without:
        raise ValueError(
            f"every tile with features needs a row in the label tables (its label may be empty); {len(without)} have "
            f"none, the first is tile {without[0][1]!r} of image {without[0][0]!r}"
        )
    twice = next((keys[a] for a, b in itertools.pairwise(order) if keys[a] == keys[b]), None)
    if twice:
        raise ValueError(f"a tile stands once in the features; tile {twice[1]!r} of image {twice[0]!r} stands twice")
    rows = [rows_of[keys[k]] for k in order]
    places = splits.read(tables.split_file, rows, split.unit, split.share_groups)
    index = {name: k for k, name in enumerate(classes)} | {"": NO_LABEL}
    return TileIndex(
        tile=_texts(row["tile"] for row in rows),
        image=_texts(row["image"] for row in rows),
        slide=_texts(row["slide"] for row in rows),
        group=_texts(places.group),
        label=np.array([index[row["label"]] for row in rows], dtype=np.int16),
        set=places.set,
        fold=places.fold,
        unit=places.unit,
        attributes=dict(matrix.attributes),
        columns=list(matrix.columns),
        matrix=matrix,
        place=np.array(order),
    )


def read_drawn(
    *,
    features: Sequence[str],
    tables: LearningTables,
    split: Split,
    feature_set: FeatureSet,
    classes: Sequence[str],
    factors: Factors,
    master_seed: int,
) -> tuple[TileIndex, np.ndarray]:
    """Read a table as :func:`read` does, and draw the tiles to train on as :func:`draw` does.

    Returns
    -------
    table : TileIndex
    drawn : ndarray of bool, shape (n,)
    """
    table = read(
        features=features,
        tables=tables,
        split=split,
        feature_set=feature_set,
        classes=classes,
        master_seed=master_seed,
    )
    drawn = draw(
        table,
        tiles=split.train_tiles,
        tiles_per_class=split.train_tiles_per_class,
        split_seed=factors.seed,
        master_seed=master_seed,
    )
    return table, drawn


def check_features_vary(table: TileTable) -> None:
    """Raise if every feature is constant over the tiles with a label: nothing could be learnt from them.

    Raises
    ------
    ValueError
        Naming the networks and layers.
    """
    rows = np.flatnonzero(table.label != NO_LABEL)
    for start in range(0, len(rows), _BLOCK):
        if (table.features[rows[start : start + _BLOCK]] != table.features[rows[0]]).any():
            return
    names = ", ".join(f"layer {part.layer} of {part.network}" for part in table.columns)
    raise ValueError(
        f"training needs a feature that differs between tiles; found every feature of {names} constant over "
        f"{len(rows)} training tiles"
    )


def draw(
    table: Tiles, *, tiles: int | None, tiles_per_class: int | None, split_seed: int, master_seed: int
) -> np.ndarray:
    """Choose the labelled tiles to train on; without a cap, all of train and validation.

    Parameters
    ----------
    table : Tiles
    tiles, tiles_per_class : int or None
        At most so many, and so many of each class.
    split_seed, master_seed : int
        A tile's place in the random order depends on the seeds and its name alone, so every method of a study
        trains on the same tiles.

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    chosen = (table.set != "test") & (table.label != NO_LABEL)
    if tiles is None and tiles_per_class is None:
        return chosen
    ranked = sorted(
        np.flatnonzero(chosen),
        key=lambda k: seeds.unit_hash(master_seed, "train tiles", split_seed, table.image[k], table.tile[k]),
    )
    if tiles_per_class is not None:
        taken = dict.fromkeys(table.label[ranked].tolist(), 0)
        kept = []
        for k in ranked:
            taken[int(table.label[k])] += 1
            if taken[int(table.label[k])] <= tiles_per_class:
                kept.append(k)
        ranked = kept
    chosen = np.zeros_like(chosen)
    chosen[ranked[:tiles]] = True
    return chosen


def _open(features: Sequence[str], feature_set: FeatureSet, master_seed: int) -> Any:
    match feature_set:
        case Layers():
            return feature_matrix.open_matrix(manifests=features, sources=feature_set.sources)
        case WindowSet():
            return windows.open_windows(pixels=features, windows=feature_set.windows, master_seed=master_seed)
        case StoredTiles():
            return tile_pixels.open_tiles(features, px=feature_set.pixels.px)
        case SlideImage():
            return slide_images.open_images(features, cell_px=feature_set.image.cell_px)
    raise TypeError(f"a feature set must be Layers, WindowSet, StoredTiles or SlideImage; found {feature_set!r}")


def _taken(table: Tiles, chosen: np.ndarray) -> dict[str, np.ndarray]:
    return {name: getattr(table, name)[chosen] for name in _DESCRIBING}


def _label_rows(labels: Sequence[str], classes: Sequence[str]) -> dict[tuple[str, str], dict[str, str]]:
    rows = {}
    legal = {*classes, ""}
    for path in labels:
        for number, row in enumerate(store.read_table(path), start=2):
            if row["label"] not in legal:
                raise ValueError(
                    f"{path}, line {number}: a label must be one of {', '.join(classes)}, or empty; "
                    f"found {row['label']!r}"
                )
            rows[row["image"], row["tile"]] = row
    return rows


def _texts(texts: Any) -> np.ndarray:
    return np.array(list(texts), dtype=object)
