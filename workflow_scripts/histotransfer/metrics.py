"""Metrics of predictions: pure functions of labels, scores and weights.

Every function takes ``weights``: how often each row counts. With weights of shape (n, r) it returns r values at once,
one per column: that is how a bootstrap resamples groups without copying a row. Where a metric is undefined it is NaN.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Counts(NamedTuple):
    """Rows per class, each an array of shape (..., n_classes).

    Attributes
    ----------
    correct : ndarray
        Rows of the class that are predicted as it (true positives).
    actual : ndarray
        Rows of the class.
    predicted : ndarray
        Rows predicted as the class.
    """

    correct: np.ndarray
    actual: np.ndarray
    predicted: np.ndarray


def confusion_matrix(
    true: np.ndarray, predicted: np.ndarray, n_classes: int, weights: np.ndarray | None = None
) -> np.ndarray:
    """Count rows by true class (first axis) and predicted class (second).

    Parameters
    ----------
    true, predicted : ndarray of int, shape (n,)
    n_classes : int
    weights : ndarray, shape (n,), optional

    Returns
    -------
    ndarray of float64, shape (n_classes, n_classes)
    """
    cells = true.astype(np.int64) * n_classes + predicted
    return np.bincount(cells, weights=_weights(weights, len(true)), minlength=n_classes**2).reshape(n_classes, -1)


def class_counts(true: np.ndarray, predicted: np.ndarray, n_classes: int, weights: np.ndarray | None = None) -> Counts:
    """Count rows per class.

    Parameters
    ----------
    true, predicted : ndarray of int, shape (n,)
    n_classes : int
    weights : ndarray, shape (n,) or (n, r), optional

    Returns
    -------
    Counts
        Arrays of shape (n_classes,), or (r, n_classes).
    """
    classes = np.arange(n_classes)
    is_true, is_predicted = true[:, None] == classes, predicted[:, None] == classes
    rows = np.hstack([is_true & is_predicted, is_true, is_predicted]).astype(np.float64)
    return Counts(*np.split(_weights(weights, len(true)).T @ rows, 3, axis=-1))


def accuracy(counts: Counts) -> np.ndarray:
    """Return the share of rows that are predicted correctly; for patches, Kieffer et al. (2017) call it eta_p."""
    return _divide(counts.correct.sum(axis=-1), counts.actual.sum(axis=-1))


def recall(counts: Counts) -> np.ndarray:
    """Return, per class, the share of its rows that are predicted as it; NaN for a class without rows."""
    return _divide(counts.correct, counts.actual)


def precision(counts: Counts) -> np.ndarray:
    """Return, per class, the share of rows predicted as it that belong to it; NaN for a class without rows.

    ASSUME 0 for a class that has rows and is never predicted, as scikit-learn has it: left out, the class that a
    method never finds would raise the mean over classes.
    """
    value = np.where(counts.predicted == 0, 0.0, _divide(counts.correct, counts.predicted))
    return np.where(counts.actual == 0, np.nan, value)


def f1(counts: Counts) -> np.ndarray:
    """Return, per class, the harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN); NaN without rows."""
    value = _divide(2 * counts.correct, counts.actual + counts.predicted)
    return np.where(counts.actual == 0, np.nan, value)


def macro(values: np.ndarray) -> np.ndarray:
    """Return the unweighted mean over classes (last axis); NaN if it is undefined for any of them."""
    return values.mean(axis=-1)


def balanced_accuracy(counts: Counts) -> np.ndarray:
    """Return the unweighted mean of the classes' recalls (Brodersen et al. 2010); NaN if a class has no rows."""
    return macro(recall(counts))


class RankAreas(NamedTuple):
    """Areas under two curves, each a float or an array of shape (r,)."""

    roc: np.ndarray
    pr: np.ndarray


def rank_areas(positive: np.ndarray, score: np.ndarray, weights: np.ndarray | None = None) -> RankAreas:
    """Return the areas under the ROC and the precision-recall curve of one class against the others.

    Parameters
    ----------
    positive : ndarray of bool, shape (n,)
    score : ndarray of float, shape (n,)
        Higher means more likely positive. Equal scores are one threshold.
    weights : ndarray, shape (n,) or (n, r), optional

    Returns
    -------
    RankAreas
        ROC AUC is NaN where positives or negatives are absent, PR AUC where positives are.

    Notes
    -----
    ROC AUC by the trapezoid rule over all thresholds: the probability that a positive row scores above a negative
    one, ties counting half (Hanley and McNeil 1982; Fawcett 2006, algorithm 3).

    PR AUC is average precision, the sum over thresholds of (R_k - R_(k-1)) P_k: no line is drawn between points of
    the curve, since linear interpolation between precisions is too optimistic (Davis and Goadrich 2006).
    """
    weights = _weights(weights, len(score))
    if not positive.any():
        nothing = np.full(weights.shape[1:], np.nan)
        return RankAreas(nothing, nothing.copy())
    order = np.argsort(-score, kind="stable")
    falling = score[order]
    at = np.flatnonzero(positive[order])
    every = np.cumsum(weights.take(order, axis=0), axis=0)
    gained = weights.take(order[at], axis=0)
    hits = np.cumsum(gained, axis=0)
    all_hits, all_rows = hits[-1].copy(), every[-1].copy()
    pairs = all_hits * (all_rows - all_hits)
    if (falling[1:] == falling[:-1]).any():
        # a threshold takes in all rows of its score: what counts is the sum at its last row, and before its first
        first = np.searchsorted(-falling, -falling[at], side="left")
        last = np.searchsorted(-falling, -falling[at], side="right") - 1
        hits = np.concatenate([np.zeros_like(hits[:1]), hits])
        every = np.concatenate([np.zeros_like(every[:1]), every])
        before = every.take(first, axis=0) - hits.take(np.searchsorted(at, first), axis=0)
        every, hits = every.take(last + 1, axis=0), hits.take(np.searchsorted(at, last, side="right"), axis=0)
        misses = (before + every - hits) / 2
    else:
        every = every.take(at, axis=0)
        misses = every - hits
    misses *= gained
    # hits of 0 at a threshold without any row: 0 / 0 counts as 0, like everything that is weighted by no row
    np.maximum(every, np.finfo(np.float64).tiny, out=every)
    hits *= gained
    hits /= every
    return RankAreas(_divide(pairs - misses.sum(axis=0), pairs), _divide(hits.sum(axis=0), all_hits))


def roc_auc(true: np.ndarray, score: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the ROC AUC of the last of two classes, or the mean over classes of one against the others.

    Parameters
    ----------
    true : ndarray of int, shape (n,)
    score : ndarray of float, shape (n, n_classes)
    weights : ndarray, shape (n,) or (n, r), optional

    Notes
    -----
    One against the others, unweighted (Provost and Domingos 2000 weight by prevalence; scikit-learn's
    ``multi_class="ovr", average="macro"`` does not). NaN if a class has no rows.
    """
    n_classes = score.shape[1]
    asked = [1] if n_classes == 2 else range(n_classes)
    return macro(np.stack([rank_areas(true == k, score[:, k], weights).roc for k in asked], axis=-1))


def log_loss(true: np.ndarray, probability: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the mean of -ln of the probability that the true class was given: categorical cross-entropy.

    Parameters
    ----------
    true : ndarray of int, shape (n,)
    probability : ndarray of float, shape (n, n_classes)
        Sums to 1 in each row.
    weights : ndarray, shape (n,) or (n, r), optional

    Returns
    -------
    ndarray
        Lower is better; ln(n_classes) is what even odds give. NaN without rows.

    Notes
    -----
    Good (1952), in nats. ASSUME a probability of 0 counts as the smallest step of float64 (2.2e-16), as scikit-learn
    has it: else one certain error would make the mean infinite.
    """
    weights = _weights(weights, len(true))
    given = np.clip(probability[np.arange(len(true)), true], np.finfo(np.float64).eps, 1)
    return _divide(weights.T @ -np.log(given), weights.sum(axis=0))


def slide_accuracy(
    correct: np.ndarray, slide: np.ndarray, weights: np.ndarray | None = None, copies: np.ndarray | None = None
) -> np.ndarray:
    """Return eta_w, the mean over slides of the share of a slide's tiles that are predicted correctly.

    Parameters
    ----------
    correct : ndarray of bool, shape (n,)
    slide : ndarray of int, shape (n,)
        Index of each row's slide, 0 to n_slides - 1.
    weights : ndarray, shape (n,) or (n, r), optional
    copies : ndarray, shape (n_slides,) or (n_slides, r), optional
        How often each slide counts, where whole slides were drawn; default: once if any row of it counts.

    Notes
    -----
    Kieffer et al. (2017), section III. ASSUME the division by the scan's patch count, which is missing in print:
    without it the value exceeds 1.
    """
    weights = _weights(weights, len(correct))
    order = np.argsort(slide, kind="stable")
    starts = np.flatnonzero(np.diff(slide[order], prepend=-1))
    weights = weights[order]
    rows = np.add.reduceat(weights, starts, axis=0)
    right = np.add.reduceat(weights * correct[order].reshape(-1, *[1] * (weights.ndim - 1)), starts, axis=0)
    copies = (rows > 0).astype(np.float64) if copies is None else copies.astype(np.float64)
    shares = np.divide(right, rows, out=np.zeros_like(right), where=rows > 0)
    return _divide((copies * shares).sum(axis=0), copies.sum(axis=0))


def overall(metric: str, true: np.ndarray, score: np.ndarray) -> float:
    """Return one metric by its name, of rows predicted as the class with the highest score.

    Parameters
    ----------
    metric : {'accuracy', 'balanced_accuracy', 'roc_auc'}
    true : ndarray of int, shape (n,)
    score : ndarray of float, shape (n, n_classes)

    Returns
    -------
    float
        NaN if it is undefined on these rows.
    """
    if metric == "roc_auc":
        return float(roc_auc(true, score))
    functions = {"accuracy": accuracy, "balanced_accuracy": balanced_accuracy}
    if metric not in functions:
        raise ValueError(f"a metric to tune by must be one of {', '.join([*functions, 'roc_auc'])}; found {metric!r}")
    return float(functions[metric](class_counts(true, score.argmax(axis=1), score.shape[1])))


def _weights(weights: np.ndarray | None, n: int) -> np.ndarray:
    return np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)


def _divide(value: np.ndarray, by: np.ndarray) -> np.ndarray:
    return np.divide(value, by, out=np.full(np.shape(value), np.nan), where=np.asarray(by) > 0)
