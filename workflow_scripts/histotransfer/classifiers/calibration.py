"""Probabilities from margins: one sigmoid a class, fitted on scores of tiles that the scoring model did not see."""

from __future__ import annotations

import numpy as np

#: An attribute of predictions that are calibrated so.
DESCRIPTION = (
    "per class a sigmoid of the score (Platt 1999), fitted on the out-of-fold scores of the training groups, then "
    "divided by their sum"
)


def fit_sigmoid(score: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
    """Fit ``P(positive | score) = 1 / (1 + exp(slope * score + offset))``.

    Parameters
    ----------
    score : ndarray of float64, shape (n,)
    positive : ndarray of bool, shape (n,)

    Returns
    -------
    slope, offset : float
        The slope is never positive: see the note.

    Notes
    -----
    Platt, J. (1999), "Probabilistic outputs for support vector machines and comparisons to regularized likelihood
    methods", with the targets (n+ + 1) / (n+ + 2) and 1 / (n- + 2). Newton's method with backtracking after Lin, H.-T.,
    Lin, C.-J. and Weng, R. C. (2007), "A note on Platt's probabilistic outputs for support vector machines",
    Machine Learning 68, algorithm 1.

    ASSUME a probability never falls as its score rises. Where the scores rank worse than chance, the best sigmoid
    under that condition is a constant (the problem is convex), the share of positive targets.
    """
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    target = np.where(positive, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
    # Newton's steps behave alike for votes near 1 and for margins near 1000
    scale = float(np.abs(score).max(initial=0.0)) or 1.0
    slope, offset = _newton(score / scale, target, offset=float(np.log((n_negative + 1) / (n_positive + 1))))
    if slope > 0:
        mean = float(target.mean())
        return 0.0, float(np.log((1 - mean) / mean))
    return slope / scale, offset


def fit_sigmoids(score: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Fit one sigmoid a class, each class against the others.

    Parameters
    ----------
    score : ndarray of float64, shape (n, n_classes)
        Out of fold.
    true : ndarray of int, shape (n,)

    Returns
    -------
    ndarray of float64, shape (n_classes, 2)
        Slope and offset.
    """
    return np.array([fit_sigmoid(score[:, k], true == k) for k in range(score.shape[1])])


def probabilities(score: np.ndarray, sigmoids: np.ndarray) -> np.ndarray:
    """Return the sigmoids of `score`, (n, n_classes), divided by their sum in each row."""
    exponent = score * sigmoids[:, 0] + sigmoids[:, 1]
    # exp of a negative number alone cannot overflow
    small = np.exp(-np.abs(exponent))
    values = np.where(exponent >= 0, small, 1.0) / (1.0 + small)
    total = values.sum(axis=1, keepdims=True)
    uniform = np.full_like(values, 1 / values.shape[1])
    return np.divide(values, total, out=uniform, where=total > 0)


def _newton(score: np.ndarray, target: np.ndarray, offset: float, slope: float = 0.0) -> tuple[float, float]:
    def loss(slope: float, offset: float) -> float:
        exponent = slope * score + offset
        return float(np.sum(np.logaddexp(0.0, -exponent) + target * exponent))

    present = loss(slope, offset)
    for _ in range(100):
        exponent = slope * score + offset
        p = np.exp(-np.logaddexp(0.0, exponent))
        d1, d2 = target - p, p * (1 - p)
        gradient = np.array([np.sum(score * d1), np.sum(d1)])
        if np.abs(gradient).max() < 1e-8 * len(score):
            break
        cross = np.sum(score * d2)
        # the ridge keeps the matrix invertible where every score is the same
        hessian = np.array([[np.sum(score * score * d2) + 1e-12, cross], [cross, np.sum(d2) + 1e-12]])
        step = -np.linalg.solve(hessian, gradient)
        size = 1.0
        while size >= 1e-10:
            moved = loss(slope + size * step[0], offset + size * step[1])
            if moved < present + 1e-4 * size * float(gradient @ step):
                break
            size /= 2
        else:
            break
        slope, offset, present = slope + size * float(step[0]), offset + size * float(step[1]), moved
    return slope, offset
