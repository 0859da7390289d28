"""LIBSVM on one Gram matrix for every fold and every C, against scikit-learn's SVC fitted anew for each."""

from collections.abc import Iterator
from pathlib import Path

import measuring
import numpy as np
from measuring import Row
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from histotransfer.classifiers import linear_svm

N, N_FEATURES, N_CLASSES, FOLDS = 1500, 1280, 4, 3
C = (0.001, 0.01, 0.1)

#: By how much objectives may differ, of the larger.
TOLERANCE = 1e-6


def rows(folder: Path, repetitions: int) -> Iterator[Row]:
    """Yield the rows about fitting linear support vector machines."""
    x, y = _features()
    parts = [(np.flatnonzero(np.arange(N) % FOLDS != k), np.flatnonzero(np.arange(N) % FOLDS == k)) for k in range(3)]

    def ours() -> list[linear_svm.OneVsOneMargins]:
        fit = linear_svm.libsvm(x, y, threads=1)
        models = [model for inside, _ in parts for model in fit(inside, [{"C": c} for c in C], 0)]
        _predicted(models, x, parts)
        return models

    def theirs() -> list[SVC]:
        models = [
            SVC(kernel="linear", C=c, break_ties=True).fit(x[inside], y[inside]) for inside, _ in parts for c in C
        ]
        _predicted(models, x, parts)
        return models

    with threadpool_limits(limits=1, user_api="blas"):
        ratio, low, high = measuring.ratios(theirs, ours, repetitions)
        differing, largest = _compared(ours(), theirs(), x, y, parts)
    size = f"{N:,} x {N_FEATURES:,}, {N_CLASSES} classes"
    what = f"LIBSVM's grid of {len(C)} C in {FOLDS} folds ({size}), times as fast as `SVC(kernel='linear')` for each"
    yield Row(what, ratio, low, high, 3, note="one thread, with predictions")
    what = f"models of that grid with other predictions, or another objective by more than {TOLERANCE:g}"
    note = f"of {len(C) * FOLDS}; objectives agree to {largest:.0e}"
    yield Row(what, *[float(differing)] * 3, bar=0, at_least=False, note=note)


def _features() -> tuple[np.ndarray, np.ndarray]:
    """Return classes that overlap, in features of float32 that are not negative, as pooled ones are."""
    generator = np.random.default_rng(0)
    y = np.arange(N) * 7 % N_CLASSES
    centres = 0.06 * generator.standard_normal((N_CLASSES, N_FEATURES))
    x = np.abs(centres[y] + generator.standard_normal((N, N_FEATURES)) + 0.5)
    return x.astype(np.float32), y


def _predicted(models: list, x: np.ndarray, parts: list) -> list[list[int]]:
    held_out = [asked for _, asked in parts for _ in C]
    return [model.predict(x[asked]).tolist() for model, asked in zip(models, held_out, strict=True)]


def _compared(ours: list, theirs: list, x: np.ndarray, y: np.ndarray, parts: list) -> tuple[int, float]:
    """Return how many models differ, and the largest difference of two objectives, of the larger."""
    differing, largest = 0, 0.0
    settings = [(inside, c) for inside, _ in parts for c in C]
    predicted = zip(_predicted(ours, x, parts), _predicted(theirs, x, parts), strict=True)
    for mine, other, (inside, c), (one, two) in zip(ours, theirs, settings, predicted, strict=True):
        sign = -1 if N_CLASSES == 2 else 1
        objectives = [
            _objectives(mine.coef, mine.intercept, x[inside], y[inside], c),
            _objectives(sign * other.coef_, sign * other.intercept_, x[inside], y[inside], c),
        ]
        difference = float(np.max(np.abs(objectives[0] - objectives[1]) / objectives[1]))
        differing += one != two or difference > TOLERANCE
        largest = max(largest, difference)
    return differing, largest


def _objectives(coef: np.ndarray, intercept: np.ndarray, x: np.ndarray, y: np.ndarray, c: float) -> np.ndarray:
    """Return ``|w|^2 / 2 + C sum max(0, 1 - y (w x + b))`` (Cortes and Vapnik 1995) of each pair of classes."""
    pairs = [(first, second) for first in range(N_CLASSES) for second in range(first + 1, N_CLASSES)]
    found = []
    for w, b, (first, second) in zip(coef, intercept, pairs, strict=True):
        inside = (y == first) | (y == second)
        margin = np.where(y[inside] == first, 1, -1) * (x[inside].astype(np.float64) @ w + b)
        found.append(w @ w / 2 + c * np.maximum(0, 1 - margin).sum())
    return np.array(found)
