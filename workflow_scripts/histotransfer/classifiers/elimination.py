"""Recursive feature elimination ranked by ExtraTrees importances, and the smallest subset about as good as the best.

Guyon, Weston, Barnhill and Vapnik (2002) eliminate recursively: fit, drop the features that matter least, fit again.
Each fold's elimination sees nothing of that fold, which scores its subsets. The subsets and scores are those of
``sklearn.feature_selection.RFECV`` with the same forest, folds and step. Forests of one elimination are grown one after
the other, so whole eliminations run side by side.
"""

from __future__ import annotations

import itertools
import logging
import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier

from histotransfer import metrics
from histotransfer.classifiers import cross_validation

log = logging.getLogger("histotransfer")


#: The step whose sizes are chosen by the scores so far.
ADAPTIVE = "adaptive"

#: The step that ``adaptive`` stands for, and the share of its fits that ``adaptive`` may take.
FINE_STEP = 0.01
ADAPTIVE_SHARE = 0.2

#: Subsets that are added at a time where ``adaptive`` looks closer.
_ADDED = 4

#: Seconds between two lines of progress in the log.
PROGRESS_S = 30.0

COARSE, FINE = "coarse", "fine"


@dataclass(frozen=True)
class Forest:
    """What every fit grows: extremely randomised trees (Geurts, Ernst and Wehenkel 2006).

    Attributes
    ----------
    seed : int
        Of every fit, as in RFECV; ``adaptive`` derives from it a seed for each size of a subset.
    trees, min_samples_leaf : int
    max_features : str, float or int
        Features looked at per node: ``sqrt``, ``log2``, ``all``, a share or a number. ASSUME a number that a subset
        does not reach means all of it.
    """

    seed: int
    trees: int = 100
    max_features: str | float | int = "sqrt"
    min_samples_leaf: int = 1

    def reseeded(self, size: int) -> Forest:
        """Return another forest for each size of a subset."""
        seed = int(np.random.SeedSequence([self.seed, size]).generate_state(1, np.uint32)[0] >> 1)
        return replace(self, seed=seed)

    def grow(self, x: np.ndarray, y: np.ndarray, threads: int) -> ExtraTreesClassifier:
        """Return the forest grown on rows `x`; `threads` change the time, not the trees."""
        max_features = None if self.max_features == "all" else self.max_features
        if isinstance(max_features, int):
            max_features = min(max_features, x.shape[1])
        forest = ExtraTreesClassifier(
            n_estimators=self.trees,
            max_features=max_features,
            min_samples_leaf=self.min_samples_leaf,
            random_state=self.seed,
            n_jobs=threads,
        ).fit(x, y)
        # predicting in threads adds the trees' votes in the order in which they finish
        return forest.set_params(n_jobs=1)


@dataclass(frozen=True)
class Eliminated:
    """Nested subsets of features and their scores.

    Attributes
    ----------
    order : ndarray of int32, shape (n_features,)
        Columns, best first, by the elimination on all rows: its subset of size k is ``order[:k]``, for each k in
        `sizes` from `k_min` on. As RFECV's, it ends there: smaller subsets are those of its last ranking.
    fold_orders : dict of int to ndarray of int32, shape (n_features,)
        The same of each fold's elimination, which saw nothing of that fold, for every k in `sizes`.
    importance : ndarray of float64, shape (n_features,)
        Of the forest on all rows and all features; sums to 1.
    sizes : ndarray of int32, shape (n_sizes,)
        Ascending.
    fold_scores : ndarray of float64, shape (n_sizes, n_folds)
        Of each fold's subsets on that fold; NaN where the metric is undefined. Folds ascending.
    scores : ndarray of float64, shape (n_sizes,)
        Means over folds (:func:`cross_validation.mean_scores`).
    fine : frozenset of int
        Sizes that were added where ``adaptive`` looked closer.
    k_min : int
    fits : int
        Forests grown.
    """

    order: np.ndarray
    fold_orders: Mapping[int, np.ndarray]
    importance: np.ndarray
    sizes: np.ndarray
    fold_scores: np.ndarray
    scores: np.ndarray
    fine: frozenset[int]
    k_min: int
    fits: int


def eliminate(
    x: np.ndarray,
    y: np.ndarray,
    fold: np.ndarray,
    *,
    classes: Sequence[str],
    forest: Forest,
    step: float | str,
    tolerance: float,
    metric: str,
    threads: int = 1,
) -> Eliminated:
    """Eliminate features recursively, on all rows and without each fold, and choose how many to keep.

    Parameters
    ----------
    x : ndarray of float32, shape (n, n_features)
    y : ndarray of int, shape (n,)
        Class indices.
    fold : ndarray of int, shape (n,)
    classes : sequence of str
    forest : Forest
    step : int, float or 'adaptive'
        Features dropped after each fit: a whole number, or a share of the number at the start, as
        ``sklearn.feature_selection.RFE`` has it. ``adaptive``: see Notes.
    tolerance : float
        Of :func:`smallest_within`.
    metric : {'accuracy', 'balanced_accuracy', 'roc_auc'}
        RFECV's own is accuracy.
    threads : int
        Changes the time, not the result. Memory grows by the rows' features per thread at most.

    Raises
    ------
    ValueError
        If the step or the metric is none of the above, the folds are not fit for training
        (:func:`cross_validation.check_folds`), or no subset has a score.

    Notes
    -----
    ``adaptive`` halves the number of features down to 1, then adds subsets between the smallest one within the
    tolerance and the next smaller, and when no size is left between them, beside the best, until a fifth of the fits of
    step 0.01 is done. An added subset holds the smaller one that was there before, so all stay nested. With so few
    fits, one forest's noise in the importances would cost much: each size has a forest with a seed of its own, and
    features are ranked by their mean importance over all forests that they have been in, in units of the mean
    importance in each forest.

    It is guaranteed that there are at most a fifth of the fits (from 45 features on), and that the score of `k_min` is
    within the tolerance of the highest score of *this* elimination. It is not guaranteed that this also holds for the
    path of step 0.01, which has other subsets. A score is a mean over a finite number of rows and a random forest, so a
    curve has noise. The maximum over a hundred subsets lies above the maximum over twenty, by about 0.7 standard
    deviations of the noise if subsets were independent; where this exceeds the tolerance, chance decides. ASSUME
    therefore only half of the tolerance for `k_min`: the other half is for the finer path, whose maximum may be higher.

    Measured against the best of step 0.01, with a tolerance of 0.005: 0.001, 0.001 and 0.003 below it with three seeds
    on 2,000 rows at an accuracy of 0.91; but 0.002 to 0.02 below it on 1,000 to 1,500 rows at 0.57 to 0.79, where
    neighbouring subsets of one curve differ by about 0.01.
    """
    sizes = halved_sizes(x.shape[1]) if step == ADAPTIVE else step_sizes(x.shape[1], step)
    if metric not in cross_validation.TUNING_METRICS:
        legal = ", ".join(cross_validation.TUNING_METRICS)
        raise ValueError(f"subsets of features are scored by one of {legal}; found {metric!r}")
    folds = sorted(set(fold.tolist()))
    cross_validation.check_folds(y, fold, folds, classes)
    shared = {"forest": forest, "pooled": step == ADAPTIVE, "metric": metric, "sharing": _Sharing(threads)}
    paths = [_Path(x, y, np.flatnonzero(fold != f), np.flatnonzero(fold == f), **shared) for f in folds]
    whole = _Path(x, y, np.arange(len(y)), np.empty(0, dtype=np.int64), **shared)
    seen: set[int] = set()
    fine: set[int] = set()
    allowed = tolerance / 2 if step == ADAPTIVE else tolerance
    most = max(len(sizes), adaptive_sizes(x.shape[1], len(folds)))
    with ThreadPoolExecutor(threads) as pool, _progress([*paths, whole]) as progress:
        while sizes:
            progress.expected += len(sizes) * len(paths)
            list(pool.map(lambda path, sizes=sizes: path.fit_all(sizes), paths))
            seen.update(sizes)
            ascending = sorted(seen)
            scores = cross_validation.mean_scores(_fold_scores(paths, ascending))
            gap = None
            if step == ADAPTIVE and len(seen) < most and not np.isnan(scores).all():
                gap = gap_to_fill(ascending, scores, allowed)
            sizes = between(*gap, min(_ADDED, most - len(seen))) if gap else []
            fine.update(sizes)
        if np.isnan(scores).all():
            raise ValueError(
                f"{metric} must be defined in a fold to choose features by it: each fold needs tiles of every class; "
                f"found none in {len(folds)} folds"
            )
        k_min = smallest_within(ascending, scores, allowed)
        # the largest subset is fitted in any case, for the plain importances
        sizes = [size for size in ascending if size > k_min] or ascending[-1:]
        progress.expected += len(sizes)
        whole.fit_all(sizes)
    return Eliminated(
        order=whole.order(),
        fold_orders={f: path.order() for f, path in zip(folds, paths, strict=True)},
        importance=whole.importance,
        sizes=np.array(ascending, dtype=np.int32),
        fold_scores=_fold_scores(paths, ascending),
        scores=scores,
        fine=frozenset(fine),
        k_min=k_min,
        fits=sum(path.fits for path in (whole, *paths)),
    )


def smallest_within(sizes: Sequence[int], scores: np.ndarray, tolerance: float) -> int:
    """Return k_min, the smallest size whose score is at most `tolerance` below the highest.

    Parameters
    ----------
    sizes : sequence of int
    scores : ndarray of float64, shape (n_sizes,)
        NaN is never chosen.
    tolerance : float

    Notes
    -----
    Mormont, Geurts and Marée (2018), section 5.3: k_min = min |S_t| over all t with s_t >= max s_t - tolerance.
    """
    # what is equal up to the last bits of a mean counts as equal
    lowest = np.nanmax(scores) - tolerance - 1e-12
    return min(size for size, score in zip(sizes, scores.tolist(), strict=True) if score >= lowest)


def step_sizes(n_features: int, step: float | str) -> list[int]:
    """Return the sizes of the subsets that an elimination down to one feature fits, descending.

    Parameters
    ----------
    n_features : int
    step : int or float
        A whole number of features, or a share of `n_features`, rounded down, at least one: as in
        ``sklearn.feature_selection.RFE``, the share is of the number at the start, not of what is left.

    Raises
    ------
    ValueError
    """
    share = isinstance(step, float) and 0 < step < 1
    number = isinstance(step, int) and not isinstance(step, bool) and step >= 1
    if not (share or number):
        raise ValueError(
            "the step of a feature elimination is a whole number from 1, a share above 0 and below 1, or "
            f"{ADAPTIVE!r}; found {step!r}"
        )
    dropped = max(1, int(step * n_features)) if share else int(step)
    return [*range(n_features, 1, -dropped), 1]


def halved_sizes(n_features: int) -> list[int]:
    """Return n_features, its half and so on down to 1, rounded down."""
    sizes = [n_features]
    while sizes[-1] > 1:
        sizes.append(sizes[-1] // 2)
    return sizes


def adaptive_sizes(n_features: int, n_folds: int) -> int:
    """Return how many sizes an adaptive elimination may fit, on all rows too, for a fifth of the fits of step 0.01.

    The elimination on all rows ends at k_min, which is not known beforehand: nothing is counted for that of step 0.01.
    """
    fits = ADAPTIVE_SHARE * len(step_sizes(n_features, FINE_STEP)) * n_folds
    return math.floor(fits / (n_folds + 1) + 1e-9)


def gap_to_fill(sizes: Sequence[int], scores: np.ndarray, tolerance: float) -> tuple[int, int] | None:
    """Return between which two neighbouring sizes an adaptive elimination looks next: below k_min, then at the best.

    Parameters
    ----------
    sizes : sequence of int
        Ascending.
    scores : ndarray of float64, shape (n_sizes,)
    tolerance : float
        Of :func:`smallest_within`.

    Returns
    -------
    tuple of int or None
        The first that has a size between its ends: the gap below k_min; the wider, then the narrower of the two gaps
        beside the size with the highest score (the smallest of equals). None if none has.
    """
    k_min = list(sizes).index(smallest_within(sizes, scores, tolerance))
    best = list(sizes).index(smallest_within(sizes, scores, 0))
    gaps = dict(enumerate(itertools.pairwise(sizes), start=1))
    beside = sorted((k for k in (best, best + 1) if k in gaps), key=lambda k: gaps[k][0] - gaps[k][1])
    in_turn = [gaps[k] for k in (k_min, *beside) if k in gaps]
    return next((gap for gap in in_turn if gap[1] - gap[0] > 1), None)


def between(low: int, high: int, most: int) -> list[int]:
    """Return at most so many sizes between two others, evenly spaced, descending."""
    n = min(most, high - low - 1)
    return sorted({high - round((high - low) * k / (n + 1)) for k in range(1, n + 1)}, reverse=True)


class _Sharing:
    """Threads shared by the eliminations at work: those of a finished one go to the others."""

    def __init__(self, threads: int) -> None:
        self._threads, self._at_work, self._lock = threads, 0, threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self._at_work += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._at_work -= 1

    def each(self) -> int:
        """Return how many threads a fit may take now."""
        return max(1, self._threads // self._at_work)


class _Path:
    """One elimination on some rows, its subsets scored on others.

    Parameters
    ----------
    x : ndarray of float32, shape (n, n_features)
    y : ndarray of int, shape (n,)
    rows, held_out : ndarray of int
        Without `held_out` nothing is scored.
    forest : Forest
    pooled : bool
        Whether features are ranked by all forests that they have been in, each with a seed of its own; else by one.
    metric : str
    sharing : _Sharing
    """

    def __init__(
        self,
        x: np.ndarray,
        y: np.ndarray,
        rows: np.ndarray,
        held_out: np.ndarray,
        *,
        forest: Forest,
        pooled: bool,
        metric: str,
        sharing: _Sharing,
    ) -> None:
        self._x, self._y, self._rows, self._held_out = x, y, rows, held_out
        self._forest, self._pooled, self._metric, self._sharing = forest, pooled, metric, sharing
        self._ranked: dict[int, np.ndarray] = {}
        self._pool = np.zeros((2, x.shape[1]))
        self.scores: dict[int, float] = {}
        self.importance = np.empty(0)
        self.fits = 0

    def fit_all(self, sizes: Sequence[int]) -> None:
        """Fit subsets of these sizes, the largest first."""
        with self._sharing:
            for size in sorted(sizes, reverse=True):
                self._fit(size)

    def order(self) -> np.ndarray:
        """Return all columns, int32, such that the subset of each size fitted is the first so many."""
        columns: list[int] = []
        for size in sorted(self._ranked):
            before = set(columns)
            columns += [column for column in self._ranked[size].tolist() if column not in before]
        return np.array(columns, dtype=np.int32)

    def _fit(self, size: int) -> None:
        subset = self._subset(size)
        settings = self._forest.reseeded(size) if self._pooled else self._forest
        forest = settings.grow(self._taken(subset, self._rows), self._y[self._rows], self._sharing.each())
        self.fits += 1
        importance = forest.feature_importances_
        if size == self._x.shape[1]:
            self.importance = importance
        if self._pooled:
            self._pool[:, subset] += [importance * size, np.ones(size)]
            importance = self._pool[0, subset] / self._pool[1, subset]
        # ASSUME of equal importances the later column is kept, which is what a stable sort makes of it; scikit-learn
        # has the same
        self._ranked[size] = subset[np.argsort(importance, kind="stable")[::-1]]
        if len(self._held_out):
            score = forest.predict_proba(self._taken(subset, self._held_out))
            self.scores[size] = metrics.overall(self._metric, self._y[self._held_out], score)

    def _subset(self, size: int) -> np.ndarray:
        """Return the columns of the subset of this size, ascending, nested in those fitted before."""
        larger = min((other for other in self._ranked if other > size), default=0)
        if not larger:
            return np.arange(self._x.shape[1])
        smaller = max((other for other in self._ranked if other < size), default=0)
        kept = self._ranked[smaller] if smaller else np.empty(0, dtype=np.int64)
        ranked = self._ranked[larger]
        others = ranked[~np.isin(ranked, kept)]
        return np.sort(np.concatenate([kept, others[: size - len(kept)]]))

    def _taken(self, subset: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return features of rows, float32 (n_rows, n_columns); row by row, which trees read faster than columns."""
        return self._x if len(rows) * len(subset) == self._x.size else self._x[np.ix_(rows, subset)]


def _fold_scores(paths: Sequence[_Path], sizes: Sequence[int]) -> np.ndarray:
    return np.array([[path.scores[size] for path in paths] for size in sizes])


@dataclass
class _Progress:
    """How many fits there will be, as far as is known."""

    expected: int = 0


@contextmanager
def _progress(paths: Sequence[_Path]) -> Iterator[_Progress]:
    """Log every :data:`PROGRESS_S` seconds how many of the fits are done."""
    progress = _Progress()
    started, stopped = time.monotonic(), threading.Event()

    def done() -> int:
        return sum(path.fits for path in paths)

    def report() -> None:
        while not stopped.wait(PROGRESS_S):
            seconds = time.monotonic() - started
            log.info("feature elimination: %d of %d fits or more in %.0f s", done(), progress.expected, seconds)

    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    try:
        yield progress
    finally:
        stopped.set()
        reporter.join()
    log.info("feature elimination: %d fits in %.1f s", done(), time.monotonic() - started)
