"""The single-layer perceptron: standardised features, one dense layer, softmax, Adam."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from histotransfer.classifiers.cross_validation import Fit, Parameters

#: ASSUME Adam's own defaults (Kingma and Ba 2015); the papers name none.
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8

#: ASSUME mini-batches of 200 rows, as scikit-learn's multi-layer perceptron has them.
_BATCH = 200

_PREDICTED_BLOCK = 4096


class SoftmaxPerceptron(ClassifierMixin, BaseEstimator):
    """A dense layer with softmax on standardised features.

    Parameters
    ----------
    mean, scale : ndarray of float32, shape (n_features,)
        Of the rows it was trained on; 1 as the scale of a constant feature.
    coef : ndarray of float32, shape (n_features, n_classes)
    intercept : ndarray of float32, shape (n_classes,)
    """

    def __init__(self, mean: np.ndarray, scale: np.ndarray, coef: np.ndarray, intercept: np.ndarray) -> None:
        self.mean = mean
        self.scale = scale
        self.coef = coef
        self.intercept = intercept

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """Return probabilities, float64 (n, n_classes), which sum to 1."""
        values = np.empty((len(x), len(self.intercept)))
        for start in range(0, len(x), _PREDICTED_BLOCK):
            block = (x[start : start + _PREDICTED_BLOCK] - self.mean) / self.scale
            values[start : start + _PREDICTED_BLOCK] = block @ self.coef + self.intercept
        return _softmax(values)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return class indices, int64 (n,)."""
        return self.predict_proba(x).argmax(axis=1)


def perceptron(x: np.ndarray, y: np.ndarray) -> Fit:
    """Prepare fits on subsets of the same rows.

    Parameters
    ----------
    x : ndarray of float32, shape (n, n_features)
    y : ndarray of int, shape (n,)
        Class indices 0 to n_classes - 1.

    Returns
    -------
    callable
        ``fit(rows, grid, seed)`` yields one :class:`SoftmaxPerceptron` per entry of the grid, ``{"learning_rate": ...,
        "iterations": ...}``. Entries with the same learning rate are points of one path.

    Notes
    -----
    Cross-entropy, minimised by Adam (Kingma and Ba 2015, algorithm 1) from zero weights; the problem is convex. An
    iteration is one pass over the rows in shuffled mini-batches. No penalty on the weights: the number of
    iterations, which is tuned, limits them.
    """

    def fit(rows: np.ndarray, grid: Sequence[Parameters], seed: int) -> Iterator[SoftmaxPerceptron]:
        standardised = x[rows]
        mean = standardised.mean(axis=0, dtype=np.float64)
        scale = standardised.std(axis=0, dtype=np.float64)
        scale[scale <= 1e-12 * np.maximum(np.abs(mean), 1e-30)] = 1.0
        mean, scale = mean.astype(np.float32), scale.astype(np.float32)
        standardised -= mean
        standardised /= scale
        longest: dict[float, list[int]] = {}
        for parameters in grid:
            longest.setdefault(parameters["learning_rate"], []).append(int(parameters["iterations"]))
        paths = {rate: _path(standardised, y[rows], rate, set(stops), seed) for rate, stops in longest.items()}
        for parameters in grid:
            yield SoftmaxPerceptron(mean, scale, *paths[parameters["learning_rate"]][int(parameters["iterations"])])

    return fit


def _path(
    x: np.ndarray, y: np.ndarray, learning_rate: float, stops: set[int], seed: int
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Return weights and intercepts after each number of passes in `stops`."""
    n, n_features = x.shape
    n_classes = int(y.max()) + 1
    target = np.eye(n_classes, dtype=np.float32)[y]
    # the intercepts are the last row
    weights = np.zeros((n_features + 1, n_classes), dtype=np.float32)
    first, second, gradient = np.zeros_like(weights), np.zeros_like(weights), np.empty_like(weights)
    order = np.random.default_rng(seed)
    reached = {}
    step = 0
    for iteration in range(1, max(stops) + 1):
        shuffled = order.permutation(n)
        for start in range(0, n, _BATCH):
            batch = shuffled[start : start + _BATCH]
            rows = x[batch]
            error = _softmax(rows @ weights[:-1] + weights[-1]) - target[batch]
            np.matmul(rows.T, error, out=gradient[:-1])
            gradient[-1] = error.sum(axis=0)
            gradient /= len(batch)
            step += 1
            first += (1 - _BETA1) * (gradient - first)
            second += (1 - _BETA2) * (gradient * gradient - second)
            rate = learning_rate * np.sqrt(1 - _BETA2**step) / (1 - _BETA1**step)
            weights -= (np.float32(rate) * first) / (np.sqrt(second) + np.float32(_EPSILON))
        if iteration in stops:
            reached[iteration] = (weights[:-1].copy(), weights[-1].copy())
    return reached


def _softmax(values: np.ndarray) -> np.ndarray:
    values = np.exp(values - values.max(axis=1, keepdims=True))
    return values / values.sum(axis=1, keepdims=True)
