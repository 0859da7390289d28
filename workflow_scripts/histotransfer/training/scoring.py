"""How a training is scored while it runs: the loss of a step, the scores of a set, the points of its learning curve."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from histotransfer import metrics
from histotransfer.definitions import Curve
from histotransfer.training.tiles import labels_of


class Scores(NamedTuple):
    """Scores of some tiles; `loss` is the mean of ``-log p(true class)``."""

    loss: float
    accuracy: float
    balanced_accuracy: float


def softmax_cross_entropy(auxiliary: float) -> Callable[[list[Any], Any], tuple[Any, Any, Any]]:
    """Return the loss of a step: the mean over tiles of ``-log p(true class)``, from logits.

    Parameters
    ----------
    auxiliary : float
        Weight of the loss of each further output. ASSUME 0.3 where a recipe names GoogLeNet's (Szegedy et al. 2015,
        "Going deeper with convolutions", section 5).

    Returns
    -------
    callable
        See :func:`histotransfer.backends.compiled.compiled_train_step`.
    """
    from keras import ops

    def cross_entropy(logits: Any, labels: Any) -> Any:
        logits = ops.cast(logits, "float32")
        of_true = ops.take_along_axis(logits, ops.expand_dims(labels, -1), axis=-1)[:, 0]
        return ops.mean(ops.logsumexp(logits, axis=-1) - of_true)

    def loss(outputs: list[Any], labels: Any) -> tuple[Any, Any, Any]:
        first, *others = outputs
        of_first = cross_entropy(first, labels)
        objective = of_first
        for other in others:
            objective = objective + auxiliary * cross_entropy(other, labels)
        correct = ops.sum(ops.cast(ops.equal(ops.cast(ops.argmax(first, axis=-1), labels.dtype), labels), "float32"))
        return objective, of_first, correct

    return loss


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Return the logarithms of the softmax of logits, float64 (n, n_classes)."""
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def scores_of(logits: np.ndarray, true: np.ndarray, n_classes: int) -> Scores:
    """Return the scores of tiles.

    Parameters
    ----------
    logits : ndarray of float64, shape (n, n_classes)
        Finite.
    true : ndarray of int, shape (n,)
        Indices of the true classes.
    n_classes : int

    Returns
    -------
    Scores
        The balanced accuracy is NaN where a class has no tile.
    """
    true = true.astype(np.int64)
    loss = -log_probabilities(logits)[np.arange(len(true)), true].mean()
    counts = metrics.class_counts(true, logits.argmax(axis=1), n_classes)
    return Scores(float(loss), float(metrics.accuracy(counts)), float(metrics.balanced_accuracy(counts)))


def steps_with_points(curve: Curve | None, steps_per_epoch: int) -> frozenset[int]:
    """Return after which steps of an epoch, counted from 1, the learning curve has a point."""
    if curve is None:
        return frozenset()
    n = curve.per_epoch
    return frozenset(max(1, round(k * steps_per_epoch / n)) for k in range(1, n + 1))


def rows_of_curve(
    labels: np.ndarray, rows: np.ndarray, cap: int | None, generator_of: Callable[[], np.random.Generator]
) -> np.ndarray:
    """Return the rows of a set that the learning curve scores: all, or so many that their tiles are within a cap.

    Parameters
    ----------
    labels : ndarray, shape (n,)
        Of all rows, as :func:`histotransfer.training.tiles.labels_of` takes them.
    rows : ndarray of int
        Of the set.
    cap : int or None
        Most tiles. Maps are taken whole, and at least one is taken.
    generator_of : callable
        The generator that chooses them.

    Returns
    -------
    ndarray of int
        Ascending where a cap chooses.
    """
    if cap is None or len(labels_of(labels, rows)) <= cap:
        return rows
    if labels.dtype != object:
        return np.sort(generator_of().choice(rows, cap, replace=False))
    rows = generator_of().permutation(rows)
    tiles = np.cumsum([len(labels_of(labels, rows[k : k + 1])) for k in range(len(rows))])
    return np.sort(rows[: max(1, np.searchsorted(tiles, cap, side="right"))])
