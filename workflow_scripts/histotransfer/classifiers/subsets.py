"""``subsets.h5``: the nested subsets of features that an elimination found, and how many of them to keep."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from histotransfer import store

FOLDS = "folds"


@dataclass(frozen=True)
class Subsets:
    """Nested subsets of the columns of a feature matrix.

    Attributes
    ----------
    order : ndarray of int32, shape (n_features,)
        Columns, best first: the subset of size k is ``order[:k]``, for each k in `sizes` from `k_min` on.
    fold_orders : dict of int to ndarray of int32, shape (n_features,)
        The same for each fold, found without that fold's rows, for every k in `sizes`.
    importance : ndarray of float64, shape (n_features,)
        Of the forest on all training rows and all features.
    sizes : ndarray of int32, shape (n_sizes,)
        Ascending.
    scores : ndarray of float64, shape (n_sizes,)
        Means over folds.
    k_min : int
    attributes : dict
        All of the file's, with ``columns`` parsed: a list of [network, layer, start, stop].
    """

    order: np.ndarray
    fold_orders: Mapping[int, np.ndarray]
    importance: np.ndarray
    sizes: np.ndarray
    scores: np.ndarray
    k_min: int
    attributes: Mapping[str, Any]

    def chosen(self, fold: int | None = None) -> np.ndarray:
        """Return the columns of the subset to keep, ascending: int32, (k_min,).

        Parameters
        ----------
        fold : int, optional
            Whose rows had no say in it; None: all training rows had.

        Raises
        ------
        ValueError
            If there was no such fold.
        """
        if fold is None:
            return np.sort(self.order[: self.k_min])
        if fold not in self.fold_orders:
            raise ValueError(
                f"features must have been selected on the same folds; these subsets know {sorted(self.fold_orders)}, "
                f"asked for was fold {fold}"
            )
        return np.sort(self.fold_orders[fold][: self.k_min])


def write_subsets(path: str, subsets: Subsets) -> None:
    """Write subsets; `k_min` and ``n_features`` join the attributes."""
    attributes = {**subsets.attributes, "k_min": subsets.k_min, "n_features": len(subsets.order)}
    with store.writing_hdf5(path, attributes) as file:
        file["order"] = np.asarray(subsets.order, dtype=np.int32)
        file["importance"] = np.asarray(subsets.importance, dtype=np.float64)
        file["sizes"] = np.asarray(subsets.sizes, dtype=np.int32)
        file["scores"] = np.asarray(subsets.scores, dtype=np.float64)
        for fold, order in sorted(subsets.fold_orders.items()):
            file[f"{FOLDS}/{fold}/order"] = np.asarray(order, dtype=np.int32)


def read_subsets(path: str) -> Subsets:
    """Read what :func:`write_subsets` wrote.

    Raises
    ------
    ValueError
        If an order is no order of the columns, or `k_min` no size.
    """
    import h5py

    with h5py.File(path, "r") as file:
        attributes = {
            name: value.item() if isinstance(value, np.generic) else value for name, value in file.attrs.items()
        }
        attributes["columns"] = json.loads(attributes["columns"])
        subsets = Subsets(
            order=file["order"][:],
            fold_orders={int(fold): file[FOLDS][fold]["order"][:] for fold in file[FOLDS]},
            importance=file["importance"][:],
            sizes=file["sizes"][:],
            scores=file["scores"][:],
            k_min=int(attributes["k_min"]),
            attributes=attributes,
        )
    n = int(attributes["n_features"])
    for name, order in {"all rows": subsets.order, **{f"fold {f}": o for f, o in subsets.fold_orders.items()}}.items():
        if not np.array_equal(np.sort(order), np.arange(n)):
            raise ValueError(f"{path}: the order of {name} must hold each of {n} columns once; it does not")
    if subsets.k_min not in subsets.sizes:
        raise ValueError(f"{path}: k_min must be the size of a subset; found {subsets.k_min}")
    return subsets
