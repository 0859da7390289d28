"""Which tiles a network is trained on, which choose its epoch, and whether they are fit for that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from histotransfer import seeds
from histotransfer.definitions import Recipe
from histotransfer.predictions import NO_LABEL
from histotransfer.tables import tile_table

#: Legal values of a recipe's ``sampling``.
SAMPLING = ("all", "balanced")


@dataclass(frozen=True)
class TrainingData:
    """The tiles of a training: each is a row by itself, or a row is a map of many.

    Attributes
    ----------
    table : TileIndex
        All tiles, also those that are predicted alone.
    tiles : dict of str to ndarray of int
        Tiles that count, by set (``train``, ``validation``, ``test``), as places in the table.
    label : ndarray of int, shape (n_tiles,)
        Of each tile of the table, the index of its class; -1 where it has none or is left out.
    labels : ndarray, shape (n_rows,)
        Of each row, as :func:`labels_of` takes them.
    rows : dict of str to ndarray of int
        Rows by set.
    """

    table: tile_table.TileIndex
    tiles: Mapping[str, np.ndarray]
    label: np.ndarray
    labels: np.ndarray
    rows: Mapping[str, np.ndarray]

    @classmethod
    def one_by_one(cls, table: tile_table.TileIndex, tiles: Mapping[str, np.ndarray]) -> TrainingData:
        """Return tiles that are rows by themselves."""
        return cls(table, tiles, table.label, table.label, tiles)


def labels_of(labels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the labels of the labelled tiles of some rows, one row after the other: int (k,).

    Parameters
    ----------
    labels : ndarray, shape (n,)
        Of int, the label of each tile; or of arrays (dtype object), those of each map's tiles, -1 for a tile without a
        label.
    rows : ndarray of int
    """
    if labels.dtype != object:
        return labels[rows]
    of_tiles = np.concatenate([np.empty(0, np.int64), *labels[rows]])
    return of_tiles[of_tiles >= 0]


def rows_of_sets(
    table: tile_table.TileIndex, drawn: np.ndarray, *, seed: int, master_seed: int, sampling: str = "all"
) -> dict[str, np.ndarray]:
    """Return which tiles are trained on, choose the epoch, and are tested with.

    Parameters
    ----------
    table : TileIndex
    drawn : ndarray of bool, shape (n_tiles,)
        Labelled tiles that a method may use: see :func:`histotransfer.tables.tile_table.draw`.
    seed : int
        Of the split's draw.
    master_seed : int
    sampling : str
        ``all``; or ``balanced``: of each class as many training tiles as the rarest has. The other sets keep theirs,
        so that an epoch is chosen, and a method scored, by tiles as frequent as they are.

    Returns
    -------
    dict of str to ndarray of int
        Tiles with a label, by set: ``train``, ``validation``, ``test``.

    Raises
    ------
    ValueError
        If `sampling` is not legal.
    """
    # ASSUME a cap is one on all labelled tiles that a method may use, as for the classifiers, which learn on train and
    # validation together: every method of a study sees the same tiles
    labelled = {"train": drawn, "validation": drawn, "test": table.label != NO_LABEL}
    rows = {name: np.flatnonzero((table.set == name) & chosen) for name, chosen in labelled.items()}
    if sampling == "balanced":
        rows["train"] = _balanced(table, rows["train"], seed=seed, master_seed=master_seed)
    elif sampling != "all":
        raise ValueError(f"sampling must be one of {', '.join(SAMPLING)}; found {sampling!r}")
    return rows


def _balanced(table: tile_table.TileIndex, rows: np.ndarray, *, seed: int, master_seed: int) -> np.ndarray:
    """Return as many of each class as the rarest that is there has, the first in a random order."""
    # ASSUME the order of tile_table.draw, by the seeds and a tile's name alone: where the rarest class gains a tile,
    # the others gain one and lose none
    place = {k: seeds.unit_hash(master_seed, "train tiles", seed, table.image[k], table.tile[k]) for k in rows.tolist()}
    label = table.label[rows]
    n = min((int((label == k).sum()) for k in np.unique(label)), default=0)
    chosen = [sorted(rows[label == k].tolist(), key=place.__getitem__)[:n] for k in np.unique(label)]
    return np.sort(np.concatenate([np.empty(0, rows.dtype), *chosen]).astype(rows.dtype))


def check_sets(table: tile_table.TileIndex, rows: Mapping[str, np.ndarray], split_file: str) -> None:
    """Raise if there is nothing to train on or to test with.

    Raises
    ------
    ValueError
        Naming the split's file and the set.
    """
    if not len(rows["train"]):
        raise ValueError(f"{split_file}: tiles with a label are needed in train; found none")
    if not (table.set == "test").any():
        raise ValueError(f"{split_file}: tiles are needed in test; found none")


def check_tiles(*, labels: np.ndarray, rows: Mapping[str, np.ndarray], recipe: Recipe, classes: Sequence[str]) -> None:
    """Raise if a recipe cannot train on these tiles.

    Parameters
    ----------
    labels : ndarray, shape (n,)
        As :func:`labels_of` takes them.
    rows : mapping of str to ndarray of int
        Rows with a label, of ``train`` and ``validation``.
    recipe : Recipe
    classes : sequence of str

    Raises
    ------
    ValueError
        If a class has no training tiles, or the recipe stops early or scores by balanced accuracy and the validation
        tiles for it are missing.
    """
    without = _classes_without(labels_of(labels, rows["train"]), classes)
    if without:
        raise ValueError(
            f"training needs tiles of each of the classes {', '.join(classes)} in train; found none of "
            f"{', '.join(without)}"
        )
    where = f"recipes.{recipe.name}"
    if recipe.early_stopping is not None and not len(rows["validation"]):
        raise ValueError(
            f"{where}.early_stopping needs validation tiles with a label: give the split a share for `validation`, or "
            "set early_stopping to null; found none"
        )
    decides = recipe.early_stopping is not None or recipe.keep == "best"
    if decides and len(rows["validation"]) and recipe.monitor == "balanced_accuracy":
        without = _classes_without(labels_of(labels, rows["validation"]), classes)
        if without:
            raise ValueError(
                f"{where}.monitor: balanced_accuracy needs validation tiles of every class; found none of "
                f"{', '.join(without)}"
            )


def _classes_without(labels: np.ndarray, classes: Sequence[str]) -> list[str]:
    return [name for k, name in enumerate(classes) if not (labels == k).any()]
