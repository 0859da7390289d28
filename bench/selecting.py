"""Recursive feature elimination against scikit-learn's, and an adaptive step against a fine one."""

import statistics
from collections.abc import Iterator
from pathlib import Path

import measuring
import numpy as np
from measuring import Row
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.feature_selection import RFECV
from sklearn.model_selection import PredefinedSplit

from histotransfer.classifiers import elimination

N, FEATURES, CLASSES, FOLDS, THREADS = 2000, 1280, 4, 3, 2
STEP, TREES, TOLERANCE = 0.2, 100, 0.005
FOREST = elimination.Forest(seed=1, trees=TREES)


def rows(folder: Path, repetitions: int) -> Iterator[Row]:
    """Yield the rows about feature selection."""
    yield _against_rfecv(repetitions)
    yield from _adaptive_against_fine()


def tiles(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return made-up features, labels and folds: a twentieth of the features tells classes apart, many go together."""
    random = np.random.default_rng(seed)
    y = random.integers(0, CLASSES, n)
    centres = np.zeros((CLASSES, FEATURES))
    centres[:, : FEATURES // 20] = 0.5 * random.standard_normal((CLASSES, FEATURES // 20))
    together = 0.5 * random.standard_normal((n, 20)) @ random.standard_normal((20, FEATURES)) / 4
    x = np.maximum(centres[y] + together + random.standard_normal((n, FEATURES)), 0)
    return x.astype(np.float32), y, random.integers(0, FOLDS, n)


def _eliminate(x: np.ndarray, y: np.ndarray, fold: np.ndarray, step: float | str) -> elimination.Eliminated:
    return elimination.eliminate(
        x,
        y,
        fold,
        classes=[str(k) for k in range(CLASSES)],
        forest=FOREST,
        step=step,
        tolerance=TOLERANCE,
        metric="accuracy",
        threads=THREADS,
    )


def _against_rfecv(repetitions: int) -> Row:
    x, y, fold = tiles(N, 0)
    found = []
    for _ in range(repetitions):
        kept: dict[str, object] = {}

        def ours(kept: dict[str, object] = kept) -> None:
            kept["ours"] = _eliminate(x, y, fold, STEP)

        def theirs(over: str, kept: dict[str, object] = kept) -> None:
            forest = ExtraTreesClassifier(TREES, random_state=1, n_jobs=THREADS if over == "trees" else None)
            rfecv = RFECV(forest, step=STEP, cv=PredefinedSplit(fold), n_jobs=THREADS if over == "folds" else None)
            kept["theirs"] = rfecv.fit(x, y)

        # scikit-learn's threads either grow trees or work on folds: what counts is the faster of the two
        seconds = min(measuring.wall_seconds(lambda: theirs("trees")), measuring.wall_seconds(lambda: theirs("folds")))
        found.append(measuring.wall_seconds(ours) / seconds)
        _check_same(kept["ours"], kept["theirs"])
    what = f"feature elimination against `RFECV`, {N:,} x {FEATURES:,}, step {STEP:g}, the same subsets and scores"
    return Row(what, statistics.median(found), min(found), max(found), 1.0, at_least=False, note="wall time")


def _check_same(ours: elimination.Eliminated, theirs: RFECV) -> None:
    results = theirs.cv_results_
    same = ours.sizes.tolist() == results["n_features"].tolist()
    for f in range(FOLDS):
        same = same and ours.fold_scores[:, f].tolist() == results[f"split{f}_test_score"].tolist()
        for size, support in zip(ours.sizes, results[f"split{f}_support"], strict=True):
            same = same and np.array_equal(np.sort(ours.fold_orders[f][:size]), np.flatnonzero(support))
    same = same and np.array_equal(np.sort(ours.order[: theirs.n_features_]), np.flatnonzero(theirs.support_))
    if not same:
        raise RuntimeError("an elimination and RFECV must find the same subsets and scores; they do not")


def _adaptive_against_fine() -> Iterator[Row]:
    x, y, fold = tiles(N, 0)
    fine, adaptive = _eliminate(x, y, fold, elimination.FINE_STEP), _eliminate(x, y, fold, elimination.ADAPTIVE)
    score = float(adaptive.scores[adaptive.sizes == adaptive.k_min][0])
    below, share = float(fine.scores.max()) - score, adaptive.fits / fine.fits
    kept = (
        f"{score:.4f} with {adaptive.k_min} features; best {fine.scores.max():.4f}, within tolerance with {fine.k_min}"
    )
    yield Row("fits of `step: adaptive` against step 0.01", share, share, share, 0.2, at_least=False)
    yield Row(
        "its k_min's score below the best of step 0.01", below, below, below, TOLERANCE, at_least=False, note=kept
    )
