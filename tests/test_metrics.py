"""Metrics against tables small enough to work out by hand, and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as reference

from histotransfer import metrics


def counts(true, predicted, n_classes, weights=None):
    return metrics.class_counts(np.array(true), np.array(predicted), n_classes, weights)


# three tiles of class 0, two of class 1; one of each is predicted as the other
TRUE = np.array([0, 0, 0, 1, 1])
PREDICTED = np.array([0, 0, 1, 1, 0])


def test_count_metrics_by_hand():
    found = counts(TRUE, PREDICTED, 2)
    assert found.correct.tolist() == [2, 1]
    assert found.actual.tolist() == [3, 2]
    assert found.predicted.tolist() == [3, 2]
    assert metrics.accuracy(found) == 3 / 5
    assert metrics.recall(found).tolist() == [2 / 3, 1 / 2]
    assert metrics.precision(found).tolist() == [2 / 3, 1 / 2]
    assert metrics.balanced_accuracy(found) == (2 / 3 + 1 / 2) / 2
    assert metrics.f1(counts([0, 0, 1], [0, 1, 1], 2)).tolist() == [2 / 3, 2 / 3]


def test_confusion_matrix_has_true_classes_in_rows():
    assert metrics.confusion_matrix(TRUE, PREDICTED, 2).tolist() == [[2, 1], [1, 1]]
    weighted = metrics.confusion_matrix(TRUE, PREDICTED, 3, np.array([2, 0, 1, 1, 3]))
    assert weighted.tolist() == [[2, 1, 0], [3, 1, 0], [0, 0, 0]]


def test_class_without_rows_is_undefined_and_so_is_the_mean_over_classes():
    found = counts(TRUE, PREDICTED, 3)
    for metric in (metrics.recall, metrics.precision, metrics.f1):
        assert np.isnan(metric(found)[2])
        assert np.isnan(metrics.macro(metric(found)))
    assert metrics.accuracy(found) == 3 / 5


def test_class_that_is_never_predicted_has_precision_zero():
    found = counts([0, 1], [0, 0], 2)
    assert metrics.precision(found).tolist() == [1 / 2, 0]
    assert metrics.f1(found)[1] == 0


def test_rank_areas_by_hand():
    # falling: positive, negative, positive, negative. Of four pairs one is in the wrong order.
    areas = metrics.rank_areas(np.array([True, False, True, False]), np.array([4.0, 3.0, 2.0, 1.0]))
    assert areas.roc == 3 / 4
    # precision 1 at the first positive and 2/3 at the second, each for half of the recall
    assert areas.pr == pytest.approx((1 + 2 / 3) / 2)


def test_equal_scores_are_one_threshold():
    areas = metrics.rank_areas(np.array([True, False, True, False]), np.array([2.0, 2.0, 1.0, 1.0]))
    assert areas.roc == 1 / 2
    assert areas.pr == 1 / 2
    constant = metrics.rank_areas(np.array([True, False, False]), np.zeros(3))
    assert constant.roc == 1 / 2
    assert constant.pr == pytest.approx(1 / 3)


def test_rank_areas_without_one_side():
    assert np.isnan(metrics.rank_areas(np.array([True, True]), np.array([1.0, 2.0])).roc)
    assert metrics.rank_areas(np.array([True, True]), np.array([1.0, 2.0])).pr == 1
    nothing = metrics.rank_areas(np.array([False, False]), np.array([1.0, 2.0]), np.ones((2, 3)))
    assert np.isnan(nothing.roc).tolist() == [True] * 3
    assert np.isnan(nothing.pr).tolist() == [True] * 3


def test_slide_accuracy_by_hand():
    # slide 0: 2 of 4 tiles correct; slide 1: 1 of 1. Kieffer's eta_p is 3/5, eta_w (1/2 + 1) / 2.
    correct, slide = np.array([True, True, False, False, True]), np.array([0, 0, 0, 0, 1])
    assert metrics.slide_accuracy(correct, slide) == 3 / 4
    # a resample without slide 1, and one with slide 1 drawn twice
    weights = np.array([[1, 1], [1, 1], [1, 1], [1, 1], [0, 2]])
    assert metrics.slide_accuracy(correct, slide, weights).tolist() == [1 / 2, 3 / 4]
    copies = np.array([[1, 1], [0, 2]])
    assert metrics.slide_accuracy(correct, slide, weights, copies).tolist() == pytest.approx([1 / 2, 5 / 6])


def test_log_loss_by_hand():
    true, given = np.array([0, 1, 1]), np.array([[0.5, 0.5], [0.75, 0.25], [1.0, 0.0]])
    certain = -np.log(np.finfo(np.float64).eps)
    assert metrics.log_loss(true, given) == pytest.approx((np.log(2) + np.log(4) + certain) / 3)
    weights = np.array([[1, 3, 0], [1, 1, 0], [0, 0, 0]])
    found = metrics.log_loss(true, given, weights)
    assert found[:2].tolist() == pytest.approx([np.log(8) / 2, (3 * np.log(2) + np.log(4)) / 4])
    assert np.isnan(found[2])


def drawn(n: int, n_classes: int, *, ties: bool, seed: int):
    random = np.random.default_rng(seed)
    true = np.concatenate([np.arange(n_classes), random.integers(0, n_classes, n - n_classes)])
    score = random.standard_normal((n, n_classes)) + np.eye(n_classes)[true]
    score = np.round(score * 2) / 2 if ties else score
    score = np.exp(score) / np.exp(score).sum(axis=1, keepdims=True)
    return true, np.round(score, 2) if ties else score, random


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_resampled_metrics_agree_with_scikit_learn(n_classes, ties):
    true, score, random = drawn(150, n_classes, ties=ties, seed=n_classes)
    predicted = score.argmax(axis=1)
    # the first rows are one of each class: they stay in, so that every resample is defined
    weights = random.integers(0, 4, size=(150, 5))
    weights[:n_classes] = 1
    found = counts(true, predicted, n_classes, weights)
    areas = [metrics.rank_areas(true == k, score[:, k], weights) for k in range(n_classes)]
    for column in range(5):
        rows = np.repeat(np.arange(150), weights[:, column])
        t, p, s = true[rows], predicted[rows], score[rows]
        assert metrics.accuracy(found)[column] == pytest.approx(reference.accuracy_score(t, p))
        balanced = metrics.balanced_accuracy(found)[column]
        assert balanced == pytest.approx(reference.balanced_accuracy_score(t, p))
        expected = reference.precision_recall_fscore_support(t, p, zero_division=0)
        assert metrics.precision(found)[column] == pytest.approx(expected[0])
        assert metrics.recall(found)[column] == pytest.approx(expected[1])
        assert metrics.f1(found)[column] == pytest.approx(expected[2])
        for k in range(n_classes):
            assert areas[k].roc[column] == pytest.approx(reference.roc_auc_score(t == k, s[:, k]))
            assert areas[k].pr[column] == pytest.approx(reference.average_precision_score(t == k, s[:, k]))
        matrix = metrics.confusion_matrix(true, predicted, n_classes, weights[:, column])
        assert matrix.tolist() == reference.confusion_matrix(t, p).tolist()


def test_overall_roc_auc_is_of_the_second_class_or_the_mean_over_classes():
    true, score, _ = drawn(60, 2, ties=False, seed=1)
    assert metrics.overall("roc_auc", true, score) == pytest.approx(reference.roc_auc_score(true, score[:, 1]))
    true, score, _ = drawn(60, 3, ties=False, seed=1)
    expected = reference.roc_auc_score(true, score / score.sum(axis=1, keepdims=True), multi_class="ovr")
    assert metrics.overall("roc_auc", true, score) == pytest.approx(expected)


def test_unknown_metric_is_named():
    with pytest.raises(ValueError, match=r"must be one of accuracy, balanced_accuracy, roc_auc; found 'kappa'"):
        metrics.overall("kappa", np.array([0, 1]), np.eye(2))
