"""Recursive feature elimination: scikit-learn's own subsets and scores, and how many features are kept."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.feature_selection import RFECV
from sklearn.model_selection import PredefinedSplit

from histotransfer.classifiers import elimination
from histotransfer.classifiers.elimination import Forest

NAN = float("nan")


def planted(n=90, n_features=20, n_classes=3, informative=4, distance=1.5, seed=0):
    """Return rows of `n_classes` classes that differ in the first `informative` features, and folds."""
    random = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    centres = np.zeros((n_classes, n_features))
    centres[:, :informative] = distance * random.standard_normal((n_classes, informative))
    x = (centres[y] + random.standard_normal((n, n_features))).astype(np.float32)
    return x, y, (np.arange(n) // n_classes) % 3


def eliminate(x, y, fold, **changes):
    given = {"forest": Forest(seed=7, trees=10), "step": 0.2, "tolerance": 0.005, "metric": "accuracy"} | changes
    return elimination.eliminate(x, y, fold, classes=[str(k) for k in range(y.max() + 1)], **given)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("step", [1, 3, 0.13, 0.25, 100])
def test_subsets_and_scores_are_those_of_rfecv(step, n_classes):
    x, y, fold = planted(n_classes=n_classes)
    found = eliminate(x, y, fold, step=step)
    forest = ExtraTreesClassifier(n_estimators=10, random_state=7)
    expected = RFECV(forest, step=step, cv=PredefinedSplit(fold), min_features_to_select=1).fit(x, y)
    assert found.sizes.tolist() == expected.cv_results_["n_features"].tolist()
    assert found.scores == pytest.approx(expected.cv_results_["mean_test_score"], abs=1e-12)
    for f in range(3):
        assert found.fold_scores[:, f].tolist() == expected.cv_results_[f"split{f}_test_score"].tolist()
        for size, support in zip(found.sizes, expected.cv_results_[f"split{f}_support"], strict=True):
            assert sorted(found.fold_orders[f][:size].tolist()) == np.flatnonzero(support).tolist()
    assert sorted(found.order[: expected.n_features_].tolist()) == np.flatnonzero(expected.support_).tolist()
    assert found.importance.tolist() == forest.fit(x, y).feature_importances_.tolist()


def test_order_of_equal_importances_is_that_of_rfecv():
    x, y, fold = planted()
    # half of the features are constant, so their importance is exactly 0
    x[:, 10:] = 1
    found = eliminate(x, y, fold, step=3)
    expected = RFECV(ExtraTreesClassifier(10, random_state=7), step=3, cv=PredefinedSplit(fold)).fit(x, y)
    for f in range(3):
        for size, support in zip(found.sizes, expected.cv_results_[f"split{f}_support"], strict=True):
            assert sorted(found.fold_orders[f][:size].tolist()) == np.flatnonzero(support).tolist()


@pytest.mark.parametrize(
    ("n_features", "step", "expected"),
    [
        (10, 3, [10, 7, 4, 1]),
        (10, 0.25, [10, 8, 6, 4, 2, 1]),  # 2.5 features, rounded down
        (10, 0.05, [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]),  # half a feature: at least one
        (10, 0.5, [10, 5, 1]),  # of the number at the start, so no 2 after the 5
        (10, 20, [10, 1]),
        (1, 1, [1]),
    ],
)
def test_step_as_a_number_and_as_a_share(n_features, step, expected):
    assert elimination.step_sizes(n_features, step) == expected


@pytest.mark.parametrize("step", [0, -1, 1.0, 2.5, 0.0, True, "fast", None])
def test_steps_that_are_none(step):
    with pytest.raises(ValueError, match=rf"a whole number from 1, a share above 0 .* or 'adaptive'; found {step!r}"):
        elimination.step_sizes(10, step)


@pytest.mark.parametrize(
    ("scores", "tolerance", "expected"),
    [
        ([0.50, 0.80, 0.89, 0.90, 0.89], 0.0, 8),
        ([0.50, 0.80, 0.89, 0.90, 0.89], 0.01, 4),
        ([0.50, 0.80, 0.89, 0.90, 0.89], 0.1, 2),
        ([0.895, 0.3, 0.3, 0.9, 0.3], 0.005, 1),  # 0.9 - 0.005 is more than 0.895 in binary numbers
        ([0.89, 0.3, 0.3, 0.9, 0.3], 0.005, 8),
        ([NAN, NAN, 0.7, 0.7, 0.7], 0.005, 4),
        ([0.5, 0.5, 0.5, 0.5, 0.5], 0.0, 1),
    ],
)
def test_k_min_is_the_smallest_subset_within_the_tolerance(scores, tolerance, expected):
    assert elimination.smallest_within([1, 2, 4, 8, 16], np.array(scores), tolerance) == expected


@pytest.mark.parametrize("step", [5, "adaptive"])
def test_subsets_are_nested_and_each_is_scored_as_itself(step):
    x, y, fold = planted(n_features=60, informative=15, distance=0.7)
    found = eliminate(x, y, fold, step=step)
    for order in (found.order, *found.fold_orders.values()):
        assert sorted(order.tolist()) == list(range(60))
    for k, size in enumerate(found.sizes.tolist()):
        for f, order in found.fold_orders.items():
            own = np.sort(order[:size])
            seed = Forest(seed=7).reseeded(size).seed if step == "adaptive" else 7
            forest = ExtraTreesClassifier(10, random_state=seed).fit(x[fold != f][:, own], y[fold != f])
            assert found.fold_scores[k, f] == forest.score(x[fold == f][:, own], y[fold == f])


def test_a_folds_elimination_sees_nothing_of_it():
    x, y, fold = planted()
    spoilt_x, spoilt_y = x.copy(), y.copy()
    spoilt_x[fold == 1] = np.random.default_rng(1).standard_normal((30, 20))
    spoilt_y[fold == 1] = y[fold == 1][::-1]
    honest, spoilt = eliminate(x, y, fold), eliminate(spoilt_x, spoilt_y, fold)
    assert honest.fold_orders[1].tolist() == spoilt.fold_orders[1].tolist()
    assert honest.fold_orders[0].tolist() != spoilt.fold_orders[0].tolist()
    assert honest.order.tolist() != spoilt.order.tolist()


@pytest.mark.parametrize("step", [0.2, "adaptive"])
def test_threads_change_nothing(step):
    x, y, fold = planted(n_features=60)
    one = eliminate(x, y, fold, step=step, threads=1)
    # nine threads: two for each of four eliminations
    for threads in (2, 9):
        other = eliminate(x, y, fold, step=step, threads=threads)
        assert other.order.tolist() == one.order.tolist()
        assert other.fold_scores.tobytes() == one.fold_scores.tobytes()
        assert other.importance.tobytes() == one.importance.tobytes()
    reseeded = eliminate(x, y, fold, step=step, forest=Forest(seed=8, trees=10))
    assert reseeded.order.tolist() != one.order.tolist()


def test_planted_features_survive():
    x, y, fold = planted(informative=4, distance=3)
    for step in (0.1, "adaptive"):
        found = eliminate(x, y, fold, step=step)
        assert set(found.order[:4].tolist()) == {0, 1, 2, 3}
        assert found.k_min <= 6
        best = found.scores[found.sizes.tolist().index(found.k_min)]
        assert best >= found.scores.max() - 0.005


@pytest.mark.parametrize("n_features", [45, 64, 100, 333, 1280, 9600])
def test_adaptive_takes_a_fifth_of_the_fits_at_most(n_features, monkeypatch):
    monkeypatch.setattr(elimination._Path, "_fit", pretend_to_fit)
    x, y, fold = planted(n_features=n_features)
    fine = eliminate(x, y, fold, step=0.01)
    found = eliminate(x, y, fold, step="adaptive")
    assert found.fits <= fine.fits / 5
    assert {1, n_features // 2, n_features} <= set(found.sizes.tolist())
    assert found.fine <= set(found.sizes.tolist())
    # the curve rises to 0.9 at 30 % of the features; half of the tolerance lies 0.0025 below
    score = 0.9 * min(1, found.k_min / (0.3 * n_features))
    assert score >= 0.9 - 0.0025
    # with few features, or very many, a fifth of the fits does not come as close as step 0.01
    exact = 100 <= n_features <= 1280
    assert found.k_min <= (0.31 * n_features if exact else 0.5 * n_features)


@pytest.mark.parametrize("folds", [2, 3, 10])
def test_sizes_of_an_adaptive_elimination(folds):
    # in the worst case the fine elimination keeps everything, so fits once on all rows, and the adaptive one keeps 1
    for n_features in range(45, 2000):
        n = elimination.adaptive_sizes(n_features, folds)
        assert (folds + 1) * n <= (folds * len(elimination.step_sizes(n_features, 0.01)) + 1) / 5
        assert n >= len(elimination.halved_sizes(n_features))


def pretend_to_fit(self, size):
    """Score a subset by its size alone, and rank columns as they stand."""
    self._ranked[size] = self._subset(size)
    self.scores[size] = 0.9 * min(1, size / (0.3 * self._x.shape[1]))
    self.fits += 1


def test_where_an_adaptive_elimination_looks_next():
    sizes = [1, 2, 5, 10, 20, 40]
    rising = np.array([0.1, 0.2, 0.3, 0.9, 0.91, 0.9])
    assert elimination.gap_to_fill(sizes, rising, 0.02) == (5, 10)
    assert elimination.gap_to_fill(sizes, rising, 0.0) == (10, 20)
    # nothing lies between 9 and 10: beside the best, the wider gap first
    assert elimination.gap_to_fill([1, 2, 9, 10, 20, 40], rising, 0.02) == (20, 40)
    assert elimination.gap_to_fill([1, 2, 9, 10, 39, 40], rising, 0.02) == (10, 39)
    assert elimination.gap_to_fill([1, 2, 37, 38, 39, 40], rising, 0.02) is None
    assert elimination.gap_to_fill([1], np.array([0.5]), 0.0) is None
    assert elimination.between(20, 40, 4) == [36, 32, 28, 24]
    assert elimination.between(5, 8, 4) == [7, 6]
    assert elimination.between(5, 7, 4) == [6]


def test_equal_scores_keep_the_smallest_subset():
    x, y, fold = planted()
    for step in (0.2, "adaptive"):
        found = eliminate(np.zeros_like(x), y, fold, step=step)
        assert np.ptp(found.scores) == 0
        assert found.k_min == 1


def test_one_feature():
    x, y, fold = planted(informative=1, distance=9)
    for step in (1, 0.1, "adaptive"):
        found = eliminate(x[:, :1], y, fold, step=step)
        assert (found.sizes.tolist(), found.order.tolist(), found.importance.tolist()) == ([1], [0], [1])


def test_folds_without_a_class_have_no_roc_auc():
    x, y, fold = planted(n_classes=2, distance=3)
    fold = np.where((fold == 2) & (y == 1), 0, fold)
    found = eliminate(x, y, fold, metric="roc_auc")
    assert np.isnan(found.fold_scores[:, 2]).all()
    assert found.scores == pytest.approx(found.fold_scores[:, :2].mean(axis=1))
    assert found.scores.max() > 0.9
    # no fold has both classes, and yet each class stands in two folds
    four = np.array([0, 1, 2, 3])[2 * y + (np.arange(len(y)) // 2) % 2]
    with pytest.raises(ValueError, match=r"defined in a fold to choose features by it.* in 4 folds"):
        eliminate(x, y, four, metric="roc_auc")
    with pytest.raises(ValueError, match="roc_auc must be defined in a fold"):
        eliminate(x, y, four, metric="roc_auc", step="adaptive")


def test_rows_that_cannot_be_eliminated_on():
    x, y, fold = planted()
    with pytest.raises(ValueError, match=r"one of accuracy, balanced_accuracy, roc_auc; found 'f1'"):
        eliminate(x, y, fold, metric="f1")
    with pytest.raises(ValueError, match=r"2 folds or more; found 1"):
        eliminate(x, y, np.zeros_like(fold))
    with pytest.raises(ValueError, match=r"without fold 1, no tile of class '2' is left"):
        eliminate(x, y, np.where(y == 2, 1, fold))


def test_max_features_of_a_forest():
    x, y, fold = planted(n_features=12)
    every = eliminate(x, y, fold, forest=Forest(seed=7, trees=10, max_features="all"))
    twelve = eliminate(x, y, fold, forest=Forest(seed=7, trees=10, max_features=12))
    assert twelve.fold_scores.tobytes() == every.fold_scores.tobytes()
    root = eliminate(x, y, fold, forest=Forest(seed=7, trees=10))
    assert root.fold_scores.tobytes() != every.fold_scores.tobytes()


def test_long_work_says_how_far_it_is(caplog, monkeypatch):
    monkeypatch.setattr(elimination, "PROGRESS_S", 0.02)
    x, y, fold = planted()
    with caplog.at_level(logging.INFO, "histotransfer"):
        found = eliminate(x, y, fold, step=1)
    assert any("of 60 fits or more in" in message for message in caplog.messages)
    assert caplog.messages[-1].startswith(f"feature elimination: {found.fits} fits in")
    # every size without each fold, and on all rows those above the one kept
    assert found.fits == 3 * 20 + 20 - found.k_min
