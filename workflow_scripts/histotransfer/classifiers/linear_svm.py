"""Linear support vector machines as explicit weights, whatever solver found them.

LIBSVM's solution needs only the scalar products of the training rows. They are computed once, by BLAS, for every fold
and every C; the solution is then collapsed to one weight vector per pair of classes, so that predicting is a matrix
product instead of a sum over support vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.svm import SVC, LinearSVC
from threadpoolctl import threadpool_limits

from histotransfer.classifiers.cross_validation import Fit, Parameters

#: Up to so many training rows the Gram matrix is kept (8 n^2 bytes: 800 MB). Beyond, LIBSVM computes scalar products
#: as it needs them: the same solution, 2 to 8 times slower.
GRAM_ROWS = 10_000

#: Rows and columns of features that become one block of the Gram matrix: fixed, so that results do not depend on
#: threads. Features are float32 and scalar products float64; a block is converted when its turn comes (4 MB), for the
#: whole matrix converted would be twice its size.
_GRAM_BLOCK, _GRAM_COLUMNS = 512, 1024

#: Rows that are converted together for predictions and for weights.
_ROWS = 64


class OneVsOneMargins(ClassifierMixin, BaseEstimator):
    """One margin per pair of classes, first class against later class, in LIBSVM's order.

    Parameters
    ----------
    coef : ndarray of float64, shape (n_pairs, n_features)
        A positive margin votes for the pair's first class.
    intercept : ndarray of float64, shape (n_pairs,)
    n_classes : int
    """

    def __init__(self, coef: np.ndarray, intercept: np.ndarray, n_classes: int) -> None:
        self.coef = coef
        self.intercept = intercept
        self.n_classes = n_classes

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        """Return scores, float64 (n, n_classes): votes, and within equal votes the sum of margins.

        As ``sklearn.svm.SVC(decision_function_shape="ovr")`` with ``break_ties=True``; for two classes the margin
        itself, negative for the first class.
        """
        margins = _product(x, self.coef, self.intercept)
        if self.n_classes == 2:
            return np.hstack([margins, -margins])
        votes = np.zeros((len(margins), self.n_classes))
        sums = np.zeros_like(votes)
        for k, (first, second) in enumerate(_pairs(self.n_classes)):
            wins = margins[:, k] >= 0
            votes[:, first] += wins
            votes[:, second] += ~wins
            sums[:, first] += margins[:, k]
            sums[:, second] -= margins[:, k]
        # below a third, so that it orders equal votes and outweighs none
        return votes + sums / (3 * (np.abs(sums) + 1))

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return class indices, int64 (n,)."""
        return self.decision_function(x).argmax(axis=1)


class OneVsRestMargins(ClassifierMixin, BaseEstimator):
    """One margin per class against all others; for two classes one margin, of the second.

    Parameters
    ----------
    coef : ndarray of float64, shape (n_classes, n_features) or (1, n_features)
    intercept : ndarray of float64, shape (n_classes,) or (1,)
    """

    def __init__(self, coef: np.ndarray, intercept: np.ndarray) -> None:
        self.coef = coef
        self.intercept = intercept

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        """Return margins, float64 (n, n_classes)."""
        margins = _product(x, self.coef, self.intercept)
        return np.hstack([-margins, margins]) if len(self.coef) == 1 else margins

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return class indices, int64 (n,)."""
        return self.decision_function(x).argmax(axis=1)


def libsvm(x: np.ndarray, y: np.ndarray, *, threads: int, gram_rows: int = GRAM_ROWS) -> Fit:
    """Prepare fits of LIBSVM's linear C-SVC, one-vs-one, on subsets of the same rows.

    Parameters
    ----------
    x : ndarray of float32, shape (n, n_features)
    y : ndarray of int, shape (n,)
        Class indices 0 to n_classes - 1.
    threads : int
        For the Gram matrix.
    gram_rows : int
        Up to so many rows the Gram matrix is computed and kept.

    Returns
    -------
    callable
        ``fit(rows, grid, seed)`` yields one :class:`OneVsOneMargins` per entry of the grid (``{"C": ...}``), trained
        on ``x[rows]``. LIBSVM's solver uses no chance; `seed` is not used.
    """
    gram = gram_matrix(x, threads=threads) if len(x) <= gram_rows else None

    def fit(rows: np.ndarray, grid: Sequence[Parameters], seed: int) -> Iterator[OneVsOneMargins]:
        if gram is None:
            trained = _in_double(x, rows)
        elif np.array_equal(rows, np.arange(len(x))):
            # all rows, in order, for the refit
            trained = gram
        else:
            trained = gram[np.ix_(rows, rows)]
        for parameters in grid:
            svc = SVC(C=parameters["C"], kernel="linear" if gram is None else "precomputed")
            svc.fit(trained, y[rows])
            yield _collapsed(svc, x, rows[svc.support_])

    return fit


def liblinear(x: np.ndarray, y: np.ndarray) -> Fit:
    """Prepare fits of LIBLINEAR's L2-regularised squared-hinge SVM, one-vs-rest, on subsets of the same rows.

    The primal problem is solved where there are at least as many rows as features, else the dual. Parameters and
    result as for :func:`libsvm`, with :class:`OneVsRestMargins`.
    """

    def fit(rows: np.ndarray, grid: Sequence[Parameters], seed: int) -> Iterator[OneVsRestMargins]:
        trained = _in_double(x, rows)
        for parameters in grid:
            dual = trained.shape[0] < trained.shape[1]
            svc = LinearSVC(C=parameters["C"], dual=dual, random_state=seed, max_iter=10_000).fit(trained, y[rows])
            yield OneVsRestMargins(np.array(svc.coef_), np.array(svc.intercept_))

    return fit


def gram_matrix(x: np.ndarray, *, threads: int) -> np.ndarray:
    """Return all scalar products of rows, float64 (n, n), exactly symmetric.

    BLAS' own threads change the order of its sums, and so the last bits; fixed blocks, each by one thread, do not.
    `threads` blocks are computed side by side.
    """
    n, n_features = x.shape
    gram = np.zeros((n, n))

    def fill(left: int) -> None:
        for first in range(0, n_features, _GRAM_COLUMNS):
            columns = np.s_[first : first + _GRAM_COLUMNS]
            right = x[left : left + _GRAM_BLOCK, columns].astype(np.float64).T
            for top in range(left, n, _GRAM_BLOCK):
                rows = np.s_[top : top + _GRAM_BLOCK]
                gram[rows, left : left + _GRAM_BLOCK] += x[rows, columns].astype(np.float64) @ right

    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        list(pool.map(fill, range(0, n, _GRAM_BLOCK)))
    for start in range(0, n, _GRAM_BLOCK):
        stop = min(start + _GRAM_BLOCK, n)
        gram[:start, start:stop] = gram[start:stop, :start].T
        square = gram[start:stop, start:stop]
        above = np.triu_indices(stop - start, 1)
        square[above] = square.T[above]
    return gram


def _in_double(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return ``x[rows]`` in float64, and make no copy in float32 on the way."""
    values = np.empty((len(rows), x.shape[1]))
    for start in range(0, len(rows), _ROWS):
        values[start : start + _ROWS] = x[rows[start : start + _ROWS]]
    return values


def _collapsed(svc: SVC, x: np.ndarray, support: np.ndarray) -> OneVsOneMargins:
    """Return a fitted SVC as weights: w = sum over support vectors of alpha_i y_i x_i, for each pair of classes."""
    n_classes = len(svc.classes_)
    if n_classes == 2:
        # scikit-learn turns the sign of two-class solutions, so that a positive value means the second class
        return OneVsOneMargins(_sum_of_rows(-svc.dual_coef_, x, support), -np.array(svc.intercept_), 2)
    stops = np.cumsum(svc.n_support_)
    of_class = [slice(stop - count, stop) for stop, count in zip(stops, svc.n_support_, strict=True)]
    weights = np.zeros((len(svc.intercept_), len(support)))
    for own, (first, second) in zip(weights, _pairs(n_classes), strict=True):
        own[of_class[first]] = svc.dual_coef_[second - 1, of_class[first]]
        own[of_class[second]] = svc.dual_coef_[first, of_class[second]]
    return OneVsOneMargins(_sum_of_rows(weights, x, support), np.array(svc.intercept_), n_classes)


def _sum_of_rows(weights: np.ndarray, x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return ``weights @ x[rows]`` in float64; a few rows are converted at a time."""
    sums = np.zeros((len(weights), x.shape[1]))
    for start in range(0, len(rows), _ROWS):
        sums += weights[:, start : start + _ROWS] @ x[rows[start : start + _ROWS]].astype(np.float64)
    return sums


def _pairs(n_classes: int) -> list[tuple[int, int]]:
    return [(first, second) for first in range(n_classes) for second in range(first + 1, n_classes)]


def _product(x: np.ndarray, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
    margins = np.empty((len(x), len(coef)))
    for start in range(0, len(x), _ROWS):
        block = x[start : start + _ROWS].astype(np.float64)
        margins[start : start + _ROWS] = block @ coef.T + intercept
    return margins
