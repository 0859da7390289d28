"""The kinds of classifiers on features: what is tuned of each, and how it is fitted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier

from histotransfer.classifiers import cross_validation, leaf_frequencies, linear_svm, perceptron
from histotransfer.definitions import ExtraTrees, LeafFrequencies, LinearSvm, Perceptron, RowClassifier
from histotransfer.feature_kinds import Windows


@dataclass(frozen=True)
class Kind:
    """A kind of classifier.

    Attributes
    ----------
    tuned : tuple of str
        Names of its parameters that are lists of values to choose from.
    margins : bool
        Whether its scores are margins, which need a calibration.
    side_by_side : bool
        Whether folds may be fitted in threads side by side.
    """

    tuned: tuple[str, ...]
    margins: bool
    side_by_side: bool


def extratrees(
    x: np.ndarray, y: np.ndarray, *, threads: int, trees: int, min_samples_leaf: int
) -> cross_validation.Fit:
    """Prepare fits of extremely randomised trees (Geurts, Ernst and Wehenkel 2006) on subsets of the same rows.

    Parameters
    ----------
    x : ndarray of float32, shape (n, n_features)
    y : ndarray of int, shape (n,)
    threads : int
        For growing trees; each has a seed of its own.
    trees, min_samples_leaf : int

    Returns
    -------
    callable
        ``fit(rows, grid, seed)`` yields one ``ExtraTreesClassifier`` per entry of the grid: ``{"max_features": ...}``,
        features looked at per node: ``sqrt``, ``log2``, ``all``, a share or a number.
    """

    def fit(rows: np.ndarray, grid: Sequence[cross_validation.Parameters], seed: int) -> Iterator[ExtraTreesClassifier]:
        # all rows, in order, for the refit: no second copy of the matrix
        chosen = x if np.array_equal(rows, np.arange(len(x))) else x[rows]
        for parameters in grid:
            max_features = parameters["max_features"]
            model = ExtraTreesClassifier(
                n_estimators=trees,
                min_samples_leaf=min_samples_leaf,
                max_features=None if max_features == "all" else max_features,
                random_state=seed,
                n_jobs=threads,
            ).fit(chosen, y[rows])
            # predicting in threads adds the trees' votes in the order in which they finish
            yield model.set_params(n_jobs=1)

    return fit


KINDS = {
    "libsvm": Kind(("C",), margins=True, side_by_side=True),
    # LIBLINEAR keeps one random generator per process
    "liblinear": Kind(("C",), margins=True, side_by_side=False),
    "extratrees": Kind(("max_features",), margins=False, side_by_side=False),
    "perceptron": Kind(("learning_rate", "iterations"), margins=False, side_by_side=True),
    "leaf_frequencies": Kind(("C",), margins=True, side_by_side=False),
}


def prepare(
    classifier: RowClassifier, x: np.ndarray, y: np.ndarray, *, windows: Windows | None = None, threads: int = 1
) -> cross_validation.Fit:
    """Prepare fits of a classifier on subsets of the same rows.

    Parameters
    ----------
    classifier : LinearSvm, ExtraTrees, Perceptron or LeafFrequencies
    x : ndarray of shape (n, n_features)
        float32; for leaf frequencies uint8, of windows.
    y : ndarray of int, shape (n,)
        Class indices 0 to n_classes - 1.
    windows : Windows, optional
        What the windows are; needed for leaf frequencies.
    threads : int

    Returns
    -------
    callable
        ``fit(rows, grid, seed)`` yields one estimator per entry of the grid, trained on ``x[rows]``.
    """
    match classifier:
        case LinearSvm(kind="libsvm"):
            return linear_svm.libsvm(x, y, threads=threads)
        case LinearSvm():
            return linear_svm.liblinear(x, y)
        case ExtraTrees():
            return extratrees(
                x, y, threads=threads, trees=classifier.trees, min_samples_leaf=classifier.min_samples_leaf
            )
        case Perceptron():
            return perceptron.perceptron(x, y)
        case LeafFrequencies():
            return leaf_frequencies.leaf_frequencies(
                *(x, y),
                threads=threads,
                window_px=windows.window_px,
                trees=classifier.trees,
                max_features=classifier.max_features,
                min_samples_leaf=classifier.min_samples_leaf,
            )
