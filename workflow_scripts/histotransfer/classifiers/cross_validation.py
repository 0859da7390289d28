"""Choosing parameters by group-wise cross-validation inside the training groups."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from histotransfer import metrics, store
from histotransfer.definitions import RowClassifier
from histotransfer.predictions import NO_LABEL

COLUMNS = ("parameters", "fold", "metric", "score", "chosen")

#: What parameters can be chosen by.
TUNING_METRICS = ("accuracy", "balanced_accuracy", "roc_auc")

#: Word for the row that holds the mean over folds, by which parameters are chosen.
MEAN = "mean"

#: Values of the parameters that are chosen, by name: an entry of a grid.
Parameters = dict[str, float | int | str]

#: ``fit(rows, grid, seed)`` yields one model per entry of the grid, trained on those rows.
Fit = Callable[[np.ndarray, Sequence[Parameters], int], Iterator[Any]]


@dataclass(frozen=True)
class Tuned:
    """What the cross-validation found.

    Attributes
    ----------
    grid : list of dict
    chosen : int
        Index into `grid`.
    fold_scores : ndarray of float64, shape (n_parameters, n_folds)
        NaN where the metric is undefined.
    out_of_fold : ndarray of float64, shape (n, n_classes)
        Scores with the chosen parameters, of every row by the model that did not see its fold.
    """

    grid: list[Parameters]
    chosen: int
    fold_scores: np.ndarray
    out_of_fold: np.ndarray


def parameter_grid(classifier: RowClassifier, names: Sequence[str]) -> list[Parameters]:
    """Return all combinations of the values of a classifier's parameters, the first name's varying slowest.

    Parameters
    ----------
    classifier : LinearSvm, ExtraTrees, Perceptron or LeafFrequencies
    names : sequence of str
        Fields of it that hold several values.

    Raises
    ------
    ValueError
        If there is no value of one of them.
    """
    values = [getattr(classifier, name) for name in names]
    for name, listed in zip(names, values, strict=True):
        if not listed:
            raise ValueError(f"a classifier of kind {classifier.kind!r} needs {name}; found {list(listed)}")
    return [dict(zip(names, combination, strict=True)) for combination in itertools.product(*values)]


def cross_validate(
    fit_without: Callable[[int], Fit],
    scores_of: Callable[[Any, int, np.ndarray], np.ndarray],
    *,
    label: np.ndarray,
    fold: np.ndarray,
    classes: Sequence[str],
    grid: list[Parameters],
    metric: str,
    seed_of: Callable[[int], int],
    workers: int,
) -> Tuned:
    """Train on all folds but one, score that one, for every fold and every entry of the grid.

    Parameters
    ----------
    fit_without : callable
        ``fit_without(fold)`` returns the ``fit(rows, grid, seed)`` for models that see nothing of a fold, where `rows`
        are positions among the labelled rows.
    scores_of : callable
        ``scores_of(model, fold, rows)`` returns float64 (n_rows, n_classes) by a model that saw nothing of the fold,
        where `rows` are positions among all rows.
    label : ndarray of int, shape (n,)
        -1: predicted, and neither trained on nor scored.
    fold : ndarray of int, shape (n,)
    classes : sequence of str
    grid : list of dict
    metric : {'accuracy', 'balanced_accuracy', 'roc_auc'}
    seed_of : callable
        Seed of a fold's fits.
    workers : int
        Folds at a time.

    Raises
    ------
    ValueError
        If a fold has no labelled row, a class is missing from the training part of a fold, or no entry of the grid
        has a score.
    """
    if metric not in TUNING_METRICS:
        raise ValueError(f"a classifier is tuned by one of {', '.join(TUNING_METRICS)}; found {metric!r}")
    folds = sorted(set(fold.tolist()))
    labelled = np.flatnonzero(label != NO_LABEL)
    check_folds(label[labelled], fold[labelled], folds, classes)

    def scores_in(held_out: int) -> list[np.ndarray]:
        inside = np.flatnonzero(fold[labelled] != held_out)
        outside = np.flatnonzero(fold == held_out)
        return [scores_of(model, held_out, outside) for model in fit_without(held_out)(inside, grid, seed_of(held_out))]

    with ThreadPoolExecutor(workers) as pool:
        scores = list(pool.map(scores_in, folds))
    fold_scores = np.full((len(grid), len(folds)), np.nan)
    for column, held_out in enumerate(folds):
        true = label[fold == held_out]
        for row, score in enumerate(scores[column]):
            if np.isfinite(score).all():
                fold_scores[row, column] = metrics.overall(metric, true[true != NO_LABEL], score[true != NO_LABEL])
    chosen = _best(fold_scores, metric, grid)
    out_of_fold = np.empty((len(label), len(classes)))
    for column, held_out in enumerate(folds):
        out_of_fold[fold == held_out] = scores[column][chosen]
    return Tuned(grid=grid, chosen=chosen, fold_scores=fold_scores, out_of_fold=out_of_fold)


def write(path: str, tuned: Tuned, metric: str) -> None:
    """Write every fold's score and their mean for every entry of the grid."""
    means = mean_scores(tuned.fold_scores)
    rows = []
    for k, parameters in enumerate(tuned.grid):
        cells = [*enumerate(tuned.fold_scores[k].tolist()), (MEAN, float(means[k]))]
        rows += [
            {
                "parameters": json.dumps(parameters, sort_keys=True),
                "fold": fold,
                "metric": metric,
                "score": None if np.isnan(score) else score,
                "chosen": "yes" if k == tuned.chosen else "no",
            }
            for fold, score in cells
        ]
    store.write_table(path, COLUMNS, rows)


def mean_scores(fold_scores: np.ndarray) -> np.ndarray:
    """Return the mean over the folds in which the metric is defined at all; NaN for an entry that fails in one.

    A fold without a class has no ROC AUC, whatever the parameters; such folds say nothing. A model whose scores
    are not finite has none either, and is never chosen.
    """
    defined = np.isfinite(fold_scores).any(axis=0)
    if not defined.any():
        return np.full(len(fold_scores), np.nan)
    return fold_scores[:, defined].mean(axis=1)


def _best(fold_scores: np.ndarray, metric: str, grid: Sequence[Parameters]) -> int:
    means = mean_scores(fold_scores)
    if np.isnan(means).all():
        raise ValueError(
            f"{metric} must be defined in a fold to tune by it: each fold needs tiles of every class; found none in "
            f"{fold_scores.shape[1]} folds for {list(grid)}"
        )
    # equal up to the last bits of a mean counts as equal: the first in the order of the grid is taken
    return int(np.argmax(np.where(np.isnan(means), -np.inf, np.round(means, 12))))


def check_folds(label: np.ndarray, fold: np.ndarray, folds: Sequence[int], classes: Sequence[str]) -> None:
    """Raise if any fold cannot be trained without, or scored on.

    Parameters
    ----------
    label : ndarray of int, shape (n,)
        Class indices of labelled rows.
    fold : ndarray of int, shape (n,)
    folds : sequence of int
        All that are asked for, with or without a labelled row.
    classes : sequence of str

    Raises
    ------
    ValueError
        If there are fewer than two folds, a class has no row, a fold has none, or a class is missing from the
        training part of a fold.
    """
    if len(folds) < 2:
        raise ValueError(f"cross-validation needs tiles in 2 folds or more; found {len(folds)}")
    for index, name in enumerate(classes):
        if not (label == index).any():
            raise ValueError(f"every class needs training tiles; class {name!r} has none")
    for held_out in folds:
        if not (fold == held_out).any():
            raise ValueError(f"every fold needs labelled tiles; fold {held_out} has none. Ask for fewer folds")
        for index, name in enumerate(classes):
            if not ((label == index) & (fold != held_out)).any():
                raise ValueError(
                    f"every class must stand in two folds; without fold {held_out}, no tile of class {name!r} is left "
                    "to train on. Add groups of it, or ask for fewer folds"
                )
