"""``predictions.h5``: the form in which every strategy ends, whatever it is made of.

The root holds the held-out test tiles; the group ``out_of_fold`` holds the tiles of the training groups, each
predicted by a model that saw nothing of its group; the group ``validation`` holds the validation tiles, predicted by
the model itself. Scoring, calibration and ranking read no other form.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from histotransfer import store

#: Label of a tile without one: it is predicted, and neither trained on nor scored.
NO_LABEL = -1

OUT_OF_FOLD = "out_of_fold"
VALIDATION = "validation"

#: What every predictions file says about itself. `unit` is the split's (it may be ``given``), `group_unit` what its
#: groups are (patient, slide, image, tile); `weights` names the networks' weights.
ATTRIBUTES = (
    "dataset",
    "task",
    "split",
    "unit",
    "group_unit",
    "share_groups",
    "seed",
    "features",
    "network",
    "weights",
    "untrained",
    "classifier",
    "chosen",
    "tuning_metric",
    "calibration",
    "n_train_tiles",
    "n_train_groups",
    "classes",
)


@dataclass(frozen=True)
class Predictions:
    """Predicted tiles, in the order of their rows.

    Attributes
    ----------
    tile, image, slide, group : list of str
        `group` is the value of the split's unit.
    true : ndarray of int16, shape (n,)
        Index of the true class in the file's ``classes``; -1 without a label.
    score : ndarray of float64, shape (n, n_classes)
        What the strategy decides by: margins, votes or probabilities; higher is more likely.
    probability : ndarray of float64, shape (n, n_classes)
        Sums to 1 in each row. May rank classes otherwise than `score`, where a calibration lies between.
    fold : ndarray of int16, shape (n,), optional
        Out of fold: the fold whose groups the predicting model did not see.
    """

    tile: Sequence[str]
    image: Sequence[str]
    slide: Sequence[str]
    group: Sequence[str]
    true: np.ndarray
    score: np.ndarray
    probability: np.ndarray
    fold: np.ndarray | None = None

    @property
    def predicted(self) -> np.ndarray:
        """Index of the class with the highest score, the first in declared order if several have it: int16, (n,)."""
        return np.argmax(self.score, axis=1).astype(np.int16)

    def check(self, n_classes: int) -> None:
        """Raise ValueError if a shape is wrong, a number is not finite or probabilities do not sum to 1."""
        n = len(self.tile)
        lengths = {len(self.image), len(self.slide), len(self.group), len(self.true)}
        lengths |= set() if self.fold is None else {len(self.fold)}
        if lengths != {n}:
            raise ValueError(f"predictions of {n} tiles need as many entries in every column; found {sorted(lengths)}")
        for name, values in (("score", self.score), ("probability", self.probability)):
            if values.shape != (n, n_classes):
                raise ValueError(f"{name} must have the shape {(n, n_classes)}; found {values.shape}")
            bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
            if bad.size:
                raise ValueError(
                    f"{name} must be finite; not so for {bad.size} tiles, the first is tile {self.tile[bad[0]]!r} of "
                    f"image {self.image[bad[0]]!r}: {values[bad[0]].tolist()}"
                )
        if n and np.abs(self.probability.sum(axis=1) - 1).max() > 1e-6:
            raise ValueError("probabilities must sum to 1 for every tile")
        low, high = min(self.true, default=0), max(self.true, default=0)
        if low < NO_LABEL or high >= n_classes:
            raise ValueError(f"true classes must lie in {NO_LABEL}..{n_classes - 1}; found {low}..{high}")


def write_predictions(
    path: str,
    *,
    held_out: Predictions,
    out_of_fold: Predictions | None,
    attributes: Mapping[str, Any],
    validation: Predictions | None = None,
) -> None:
    """Write a strategy's predictions.

    Parameters
    ----------
    path : path
    held_out : Predictions
        Of the test groups' tiles.
    out_of_fold : Predictions or None
        Of the training groups' tiles, with `fold`; None for a strategy that has none (a network trained once).
    attributes : mapping
        At least :data:`ATTRIBUTES`.
    validation : Predictions, optional
        Of the tiles that the split keeps for validation, by the model that predicted `held_out`. Where they chose the
        model (an epoch, a rate) their scores are a little too good.

    Raises
    ------
    ValueError
        If an attribute is missing or the numbers are not what they must be.
    """
    missing = [name for name in ATTRIBUTES if name not in attributes]
    if missing:
        raise ValueError(f"{path}: predictions need the attributes {', '.join(ATTRIBUTES)}; missing {missing}")
    n_classes = len(attributes["classes"])
    held_out.check(n_classes)
    if out_of_fold is not None:
        out_of_fold.check(n_classes)
        if out_of_fold.fold is None:
            raise ValueError(f"{path}: predictions out of fold must name each tile's fold; found none")
    if validation is not None:
        validation.check(n_classes)
    with store.writing_hdf5(path, attributes) as file:
        _write(file, held_out)
        if out_of_fold is not None:
            _write(store.create_group(file, OUT_OF_FOLD), out_of_fold)
        if validation is not None:
            _write(store.create_group(file, VALIDATION), validation)


def read_attributes(path: str | Path) -> dict[str, Any]:
    """Return what a predictions file says about itself, without reading its rows; JSON stays text."""
    import h5py

    with h5py.File(path, "r") as file:
        return _attributes(file)


def read_predictions(path: str) -> tuple[Predictions, Predictions | None, dict[str, Any]]:
    """Read what :func:`write_predictions` wrote.

    Returns
    -------
    held_out : Predictions
    out_of_fold : Predictions or None
    attributes : dict
        With ``classes`` and ``chosen`` parsed.
    """
    import h5py

    with h5py.File(path, "r") as file:
        attributes = _attributes(file)
        for name in ("classes", "chosen"):
            attributes[name] = json.loads(attributes[name])
        out_of_fold = _read(file[OUT_OF_FOLD]) if OUT_OF_FOLD in file else None
        return _read(file), out_of_fold, attributes


def read_validation(path: str | Path) -> Predictions | None:
    """Return the predictions of the validation tiles, None where the file has none."""
    import h5py

    with h5py.File(path, "r") as file:
        return _read(file[VALIDATION]) if VALIDATION in file else None


def _attributes(file: Any) -> dict[str, Any]:
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in file.attrs.items()}


def _write(node: Any, predictions: Predictions) -> None:
    for name in ("tile", "image", "slide", "group"):
        store.write_texts(node, name, getattr(predictions, name))
    node["true"] = np.asarray(predictions.true, dtype=np.int16)
    node["score"] = np.asarray(predictions.score, dtype=np.float64)
    node["predicted"] = predictions.predicted
    node["probability"] = np.asarray(predictions.probability, dtype=np.float64)
    if predictions.fold is not None:
        node["fold"] = np.asarray(predictions.fold, dtype=np.int16)


def _read(node: Any) -> Predictions:
    texts = {name: store.read_texts(node, name) for name in ("tile", "image", "slide", "group")}
    fold = node["fold"][:] if "fold" in node else None
    return Predictions(
        **texts, true=node["true"][:], score=node["score"][:], probability=node["probability"][:], fold=fold
    )
