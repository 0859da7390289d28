"""The baseline ET-FL: trees learn features of random windows, a linear SVM learns on how often each leaf is reached.

Maree, Geurts and Wehenkel (2016, "Towards generic image classification using tree-based learning: an extensive
empirical study", Pattern Recognition Letters 74:17-23), their variant ET-FL: extremely randomised trees (Geurts,
Ernst and Wehenkel 2006) are grown on the windows of all training tiles, each with its tile's label; a tile is then
described by the share of its windows in each leaf of each tree, f(tile, leaf) = windows of it in the leaf / windows of
it, and LIBLINEAR learns on these shares.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.svm import LinearSVC

from histotransfer.classifiers.cross_validation import Fit, Parameters

#: Windows sent down the trees at a time: 25 MB of 16 x 16 px. Each tile's shares are its own, whatever block it is in.
_BLOCK_WINDOWS = 8192


class LeafFrequencies(ClassifierMixin, BaseEstimator):
    """Margins of tiles by the leaves that their windows reach; any number of windows a tile.

    Parameters
    ----------
    forest : ExtraTreesClassifier
        Grown on single windows.
    coef : ndarray of float64, shape (n_classes, n_leaves) or (1, n_leaves)
        One margin per class against all others; for two classes one, of the second. Leaves tree by tree, in the order
        of their node numbers.
    intercept : ndarray of float64, shape (n_classes,) or (1,)
    """

    def __init__(self, forest: ExtraTreesClassifier, coef: np.ndarray, intercept: np.ndarray) -> None:
        self.forest = forest
        self.coef = coef
        self.intercept = intercept

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        """Return margins, float64 (n, n_classes), of tiles as :func:`leaf_shares` takes them."""
        margins = np.empty((len(x), len(self.coef)))
        for start, shares in _blocks_of_shares(self.forest, x):
            margins[start : start + shares.shape[0]] = shares @ self.coef.T + self.intercept
        return np.hstack([-margins, margins]) if len(self.coef) == 1 else margins

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return class indices, int64 (n,)."""
        return self.decision_function(x).argmax(axis=1)


def leaf_frequencies(
    x: np.ndarray,
    y: np.ndarray,
    *,
    threads: int,
    window_px: int,
    trees: int,
    max_features: str | float | int,
    min_samples_leaf: int,
) -> Fit:
    """Prepare fits of ET-FL on subsets of the same rows.

    Parameters
    ----------
    x : ndarray of uint8, shape (n, windows * window_px * window_px * 3)
        The windows of each tile, as :meth:`histotransfer.tables.windows.WindowIndex.read` gives them.
    y : ndarray of int, shape (n,)
        Class indices 0 to n_classes - 1.
    threads : int
        For growing trees; each has a seed of its own.
    window_px : int
        Edge of a window.
    trees : int
    max_features : {'sqrt', 'log2', 'all'}, float or int
        Pixel values looked at per node.
    min_samples_leaf : int
        Windows in a leaf, at least.

    Returns
    -------
    callable
        ``fit(rows, grid, seed)`` yields one :class:`LeafFrequencies` per entry of the grid (``{"C": ...}``), trained
        on ``x[rows]``; all entries share one forest, which has seen those rows alone. While it grows, the windows of
        the rows are held as float32: 4 bytes for each of x.

    Raises
    ------
    ValueError
        If the rows of x are no whole number of windows.
    """
    length = window_px * window_px * 3
    if x.ndim != 2 or x.shape[1] == 0 or x.shape[1] % length:
        raise ValueError(
            f"leaf frequencies are those of windows of {window_px} x {window_px} px, {length} values each; found "
            f"{x.shape[1]} values a tile. They need a feature set of random windows"
        )

    def fit(rows: np.ndarray, grid: Sequence[Parameters], seed: int) -> Iterator[LeafFrequencies]:
        windows = x.shape[1] // length
        forest = ExtraTreesClassifier(
            n_estimators=trees,
            max_features=None if max_features == "all" else max_features,
            min_samples_leaf=min_samples_leaf,
            random_state=seed,
            n_jobs=threads,
        ).fit(_as_floats(x, rows, length), np.repeat(y[rows], windows))
        forest.set_params(n_jobs=1)
        # ASSUME: the SVM learns on the windows that the trees were grown on, as Maree et al. have it. Their leaves are
        # a little purer than those of new windows, which min_samples_leaf bounds; C is chosen on tiles that the forest
        # has not seen.
        shares = leaf_shares(forest, x[rows])
        dual = shares.shape[0] < shares.shape[1]
        for parameters in grid:
            svc = LinearSVC(C=parameters["C"], dual=dual, random_state=seed, max_iter=10_000).fit(shares, y[rows])
            yield LeafFrequencies(forest, np.array(svc.coef_), np.array(svc.intercept_))

    return fit


def leaf_shares(forest: ExtraTreesClassifier, x: np.ndarray) -> csr_matrix:
    """Return the share of each tile's windows in each leaf; the shares of a tile sum to the number of trees.

    Parameters
    ----------
    forest : ExtraTreesClassifier
        Grown on single windows of ``forest.n_features_in_`` values.
    x : ndarray of uint8, shape (n, windows * forest.n_features_in_)

    Returns
    -------
    csr_matrix of float32, shape (n, n_leaves)
        Leaves tree by tree, in the order of their node numbers.
    """
    from scipy.sparse import vstack

    blocks = [shares for _, shares in _blocks_of_shares(forest, x)]
    return (
        vstack(blocks, format="csr")
        if blocks
        else csr_matrix((0, sum(leaves.sum() for leaves in _leaves(forest))), dtype=np.float32)
    )


def _blocks_of_shares(forest: ExtraTreesClassifier, x: np.ndarray) -> Iterator[tuple[int, csr_matrix]]:
    """Yield ``(start, shares)`` of a few thousand windows at a time, so that memory does not grow with the tiles."""
    length = forest.n_features_in_
    if x.shape[1] == 0 or x.shape[1] % length:
        raise ValueError(f"a tile must have windows of {length} values each; found {x.shape[1]} values a tile")
    windows = x.shape[1] // length
    is_leaf = _leaves(forest)
    starts = np.cumsum([0, *(leaves.sum() for leaves in is_leaf)])
    column_of_node = [np.cumsum(leaves) - 1 + start for leaves, start in zip(is_leaf, starts, strict=False)]
    step = max(1, _BLOCK_WINDOWS // windows)
    for start in range(0, len(x), step):
        n = min(step, len(x) - start)
        values = _as_floats(x, np.arange(start, start + n), length)
        columns = np.empty((n * windows, len(is_leaf)), np.int64)
        for tree, grown in enumerate(forest.estimators_):
            columns[:, tree] = column_of_node[tree][grown.tree_.apply(values)]
        places = windows * len(is_leaf) * np.arange(n + 1)
        shares = csr_matrix((np.ones(columns.size, np.float32), columns.reshape(-1), places), (n, starts[-1]))
        # counted first and divided once: as exact as float32 can be
        shares.sum_duplicates()
        shares.data /= np.float32(windows)
        yield start, shares


def _leaves(forest: ExtraTreesClassifier) -> list[np.ndarray]:
    """Return which nodes of each tree are leaves."""
    return [grown.tree_.children_left < 0 for grown in forest.estimators_]


def _as_floats(x: np.ndarray, rows: np.ndarray, length: int) -> np.ndarray:
    """Return the windows of some tiles, one a row: float32 (n_windows, length), as trees take them."""
    values = np.empty((len(rows), x.shape[1]), np.float32)
    for place, row in enumerate(rows.tolist()):
        values[place] = x[row]
    return values.reshape(-1, length)
