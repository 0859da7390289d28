"""Ranks and strategies, on tables that can be ranked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from score_factory import write_scores

from histotransfer import predictions, store
from histotransfer.evaluation import ranking

KINDS = {"a+svm": "svm", "b+svm": "svm", "c+et": "extratrees"}


def rank(folder, scores, *, methods=tuple(KINDS), kinds=KINDS, split="s"):
    path = folder / "ranks.csv"
    ranking.rank(scores=scores, ranks=str(path), methods=list(methods), kinds=kinds, split=split)
    return store.read_csv(path)


TWO_DATASETS = {
    ("d1", "t"): {"a+svm": [0.5, 0.7], "b+svm": [0.9, 0.9], "c+et": [0.6, 0.6]},
    ("d2", "t"): {"a+svm": [0.8, 0.8], "b+svm": [0.7, 0.7], "c+et": [0.1, 0.3]},
}


def test_ranks_by_hand(tmp_path):
    # on d1 a and c both have 0.6 on average: ranks 1 and 2, on average 1.5; on d2 a is best
    rows = rank(tmp_path, write_scores(tmp_path, TWO_DATASETS, untrained=["c+et"], binary=[("d2", "t")]))
    assert list(rows[0]) == [
        *("method", "kind", "untrained", "average_rank", "d1/t accuracy", "d1/t rank", "d2/t roc_auc", "d2/t rank"),
        "note",
    ]
    found = [
        (row["method"], row["kind"], row["untrained"], float(row["average_rank"]), row["d1/t rank"], row["d2/t rank"])
        for row in rows
    ]
    assert found == [
        ("b+svm", "svm", "no", 2.5, "3.0", "2.0"),
        ("a+svm", "svm", "no", 2.25, "1.5", "3.0"),
        ("c+et", "extratrees", "yes", 1.25, "1.5", "1.0"),
    ]
    assert [float(row["d1/t accuracy"]) for row in rows] == pytest.approx([0.9, 0.6, 0.6])
    assert [float(row["d2/t roc_auc"]) for row in rows] == pytest.approx([0.7, 0.8, 0.2])
    assert {row["note"] for row in rows} == {""}


def test_mean_ranks():
    assert ranking.mean_ranks([0.3, 0.1, 0.2]).tolist() == [3, 1, 2]
    assert ranking.mean_ranks([0.5] * 4).tolist() == [2.5] * 4
    # equal but for rounding
    assert ranking.mean_ranks([0.1 + 0.2, 0.3, 0.3 + 1e-9]).tolist() == [1.5, 1.5, 3]
    assert ranking.mean_ranks([]).tolist() == []


def test_tasks_of_one_dataset_are_an_illustration(tmp_path):
    one = {("d1", "t"): TWO_DATASETS["d1", "t"], ("d1", "u"): TWO_DATASETS["d2", "t"]}
    rows = rank(tmp_path, write_scores(tmp_path, one))
    assert rows[0]["average_rank"] == "2.5"
    note = "the average rank is an illustration: its 2 tasks are of one dataset, d1, and share their tiles"
    assert {row["note"] for row in rows} == {note}
    rows = rank(tmp_path, write_scores(tmp_path, {("d1", "t"): TWO_DATASETS["d1", "t"]}))
    assert rows[0]["note"] == "the average rank is an illustration: it is the rank in one task of one dataset, d1/t"
    rows = rank(tmp_path, write_scores(tmp_path, {**TWO_DATASETS, ("d1", "u"): TWO_DATASETS["d2", "t"]}))
    assert rows[0]["note"] == "tasks of one dataset share their tiles, and each counts in the average: d1 (2 tasks)"


@pytest.mark.parametrize("missing", [[None, None], [..., ...]])
def test_a_task_in_which_a_method_has_no_value_is_left_out(tmp_path, missing):
    third = {"a+svm": [0.1, 0.1], "b+svm": missing, "c+et": [0.9, 0.9]}
    rows = rank(tmp_path, write_scores(tmp_path, {**TWO_DATASETS, ("d3", "t"): third}))
    assert [row["average_rank"] for row in rows] == ["2.5", "2.25", "1.25"]
    assert [row["d3/t rank"] for row in rows] == ["", "", ""]
    assert [row["d3/t accuracy"] for row in rows] == ["", "0.1", "0.9"]
    assert rows[0]["note"] == "d3/t is left out of the ranks: without a score: b+svm"


def test_seeds_are_those_that_all_methods_share(tmp_path):
    # by its first seed alone, b would be the last
    scores = {"a+svm": [0.9, 0.5], "b+svm": [..., 0.6], "c+et": [0.9, 0.4]}
    rows = rank(tmp_path, write_scores(tmp_path, {("d1", "t"): scores, ("d2", "t"): scores}))
    assert [(row["method"], row["d1/t accuracy"], row["average_rank"]) for row in rows] == [
        ("b+svm", "0.6", "3.0"),
        ("a+svm", "0.5", "2.0"),
        ("c+et", "0.4", "1.0"),
    ]
    assert rows[0]["note"].startswith("d1/t: without seed 1, in which not every method has a score; d2/t: without")
    apart = {"a+svm": [0.9, ...], "b+svm": [..., 0.6], "c+et": [0.9, 0.4]}
    rows = rank(tmp_path, write_scores(tmp_path, {("d1", "t"): apart}))
    assert rows[0]["note"] == (
        "d1/t is left out of the ranks: in no seed have all methods a score; no ranks: there is no task in which every "
        "method has a score"
    )
    assert [(row["method"], row["average_rank"]) for row in rows] == [("a+svm", ""), ("b+svm", ""), ("c+et", "")]


def test_only_the_methods_and_the_split_asked_for_are_ranked(tmp_path):
    path = write_scores(tmp_path, TWO_DATASETS)
    rows = rank(tmp_path, path, methods=["c+et", "a+svm"])
    assert [(row["method"], row["average_rank"]) for row in rows] == [("a+svm", "1.75"), ("c+et", "1.25")]
    with pytest.raises(
        ValueError, match=r"scores\.tsv: every method must .* split 's'; d\+svm has none, found .* a\+svm"
    ):
        rank(tmp_path, path, methods=["a+svm", "d+svm"])
    with pytest.raises(ValueError, match=r"split 'other'; a\+svm, b\+svm, c\+et has none"):
        rank(tmp_path, path, split="other")
    with pytest.raises(ValueError, match=r"each once; found a\+svm"):
        rank(tmp_path, path, methods=["a+svm", "a+svm"])


# ---- strategies


def write_predictions(
    folder, method, seed, *, folds, classes=("x", "y", "z"), dataset="d1", task="t", kept=None, **attributes
):
    """Write predictions; `folds` are [(true, predicted), ...] a fold, or None for none; `kept` of validation tiles."""
    features, classifier = method.split("+")

    def of(pairs, fold=None):
        n = len(pairs)
        one_hot = np.eye(len(classes))[[classes.index(predicted) for _, predicted in pairs]].reshape(n, len(classes))
        names = [f"{k}" for k in range(n)]
        true = np.array([classes.index(true) if true else -1 for true, _ in pairs], dtype=np.int16)
        return predictions.Predictions(names, names, names, names, true, one_hot, one_hot, fold)

    path = folder / f"{dataset}-{task}-{method}-{seed}.h5"
    fold = None if folds is None else np.repeat(np.arange(len(folds)), [len(pairs) for pairs in folds]).astype(np.int16)
    predictions.write_predictions(
        str(path),
        held_out=of([("x", "x")]),
        out_of_fold=None if folds is None else of([pair for pairs in folds for pair in pairs], fold),
        validation=None if kept is None else of(kept),
        attributes=dict.fromkeys(predictions.ATTRIBUTES, "")
        | {"dataset": dataset, "task": task, "split": "s", "seed": seed, "unit": "patient", "group_unit": "patient"}
        | {"features": features, "classifier": classifier, "classes": list(classes), "chosen": {}}
        | attributes,
    )
    return str(path)


RIGHT, WRONG = ("x", "x"), ("x", "y")
HALF = [[RIGHT, WRONG], [RIGHT, WRONG]]
#: 1 in the small fold, 1/4 in the large one: 5/8 as a mean over folds, 2/5 over tiles; a tile without label is none.
BETTER = [[RIGHT, ("", "y")], [RIGHT, WRONG, WRONG, WRONG]]
WORSE = [[WRONG], [RIGHT, WRONG]]


def tabulate(folder, scores, files, strategies):
    path = folder / "strategies.csv"
    ranking.tabulate_strategies(scores=scores, predictions=files, table=str(path), strategies=strategies, split="s")
    return store.read_csv(path)


def test_oracle_and_chosen_by_hand(tmp_path):
    # on the test set b is best on average; validation takes a in seeds 1 and 3, and b in seed 2
    values = {("d1", "t"): {"a+svm": [0.5, 0.9, 0.6], "b+svm": [0.8, 0.7, 0.9], "c+et": [0.1, 0.2, 0.3]}}
    scores = write_scores(tmp_path, values)
    files = [
        *(write_predictions(tmp_path, "a+svm", seed, folds=of) for seed, of in enumerate((BETTER, WORSE, HALF), 1)),
        *(write_predictions(tmp_path, "b+svm", seed, folds=HALF) for seed in (1, 2, 3)),
        *(write_predictions(tmp_path, "c+et", seed, folds=None) for seed in (1, 2, 3)),
    ]
    both, alone = tabulate(tmp_path, scores, files, {"both": ["a+svm", "b+svm"], "alone": ["c+et"]})
    assert (both["strategy"], both["dataset"], both["task"], both["metric"]) == ("both", "d1", "t", "accuracy")
    assert float(both["oracle"]) == pytest.approx((0.8 + 0.7 + 0.9) / 3)
    assert both["oracle_method"] == "b+svm"
    assert float(both["chosen"]) == pytest.approx((0.5 + 0.7 + 0.6) / 3)
    # equal in seed 3: the first that is declared
    assert both["chosen_methods"] == "a+svm (2 of 3 seeds), b+svm (1 of 3)"
    assert (both["variants"], both["seeds"], both["note"]) == ("2", "3", "")
    # one variant needs no validation to be chosen
    assert alone["oracle"] == alone["chosen"] == repr((0.1 + 0.2 + 0.3) / 3)
    assert alone["chosen_methods"] == "c+et (3 of 3 seeds)"


def test_scores_of_untrained_networks_are_marked(tmp_path):
    # b is best on the test set; validation takes a, and of b and c nothing
    values = {("d1", "t"): {"a+svm": [0.5], "b+svm": [0.8], "c+et": [0.1]}}
    files = [
        write_predictions(tmp_path, "a+svm", 1, folds=BETTER),
        *(write_predictions(tmp_path, name, 1, folds=None) for name in ("b+svm", "c+et")),
    ]
    strategies = {"all": ["a+svm", "b+svm"], "none": ["b+svm", "c+et"]}
    for untrained, marks in (
        ((), [("no", "no"), ("no", "")]),
        (("a+svm",), [("no", "yes"), ("no", "")]),
        (("b+svm",), [("yes", "no"), ("yes", "")]),
    ):
        scores = write_scores(tmp_path, values, untrained=untrained)
        rows = tabulate(tmp_path, scores, files, strategies)
        assert [(row["oracle_untrained"], row["chosen_untrained"]) for row in rows] == marks


def test_validation_score_is_the_tasks_metric_in_the_folds_that_define_it(tmp_path):
    def out_of_fold(folds, classes):
        path = write_predictions(tmp_path, "a+svm", 1, folds=folds, classes=classes)
        return predictions.read_predictions(path)[1]

    three = ("x", "y", "z")
    assert ranking.validation_score(out_of_fold(BETTER, three), "accuracy") == 5 / 8
    assert ranking.validation_score(out_of_fold([[("", "x")], [RIGHT]], three), "accuracy") == 1
    # of two classes: the first fold lacks y, in the second x is told from y as well as nothing
    two = [[RIGHT, RIGHT], [("x", "x"), ("y", "x")]]
    assert ranking.validation_score(out_of_fold(two, ("x", "y")), "roc_auc") == 1 / 2
    # nor is a tile without a label one of x that scores as y
    unlabelled = [[("x", "x"), ("y", "y"), ("", "y")]]
    assert ranking.validation_score(out_of_fold(unlabelled, ("x", "y")), "roc_auc") == 1
    assert np.isnan(ranking.validation_score(out_of_fold([[RIGHT], [WRONG]], ("x", "y")), "roc_auc"))
    assert ranking.validation_score(None, "accuracy") is None


def test_two_classes_are_chosen_by_roc_auc(tmp_path):
    # a is right in two of three and ranks no better than chance; b is right in one and ranks perfectly
    values = {("d1", "t"): {"a+svm": [0.5], "b+svm": [0.6]}}
    scores = write_scores(tmp_path, values, binary=[("d1", "t")])
    a = write_predictions(tmp_path, "a+svm", 1, folds=[[("x", "x"), ("x", "x"), ("y", "x")]], classes=("x", "y"))
    b = write_predictions(tmp_path, "b+svm", 1, folds=[[("x", "x"), ("x", "y"), ("y", "y")]], classes=("x", "y"))
    (row,) = tabulate(tmp_path, scores, [a, b], {"both": ["a+svm", "b+svm"]})
    assert (row["metric"], row["chosen"], row["chosen_methods"]) == ("roc_auc", "0.6", "b+svm (1 of 1 seed)")


def test_a_method_that_was_not_validated_cannot_be_chosen(tmp_path):
    scores = write_scores(tmp_path, {("d1", "t"): {"a+svm": [0.5], "b+softmax": [0.6], "c+et": [0.4]}})
    a = write_predictions(tmp_path, "a+svm", 1, folds=WORSE)
    b = write_predictions(tmp_path, "b+softmax", 1, folds=None)
    c = write_predictions(tmp_path, "c+et", 1, folds=BETTER)
    both, alone = tabulate(
        tmp_path, scores, [a, b, c], {"all": ["a+svm", "b+softmax", "c+et"], "b alone": ["b+softmax"]}
    )
    assert (both["oracle_method"], both["chosen"], both["chosen_methods"]) == ("b+softmax", "0.4", "c+et (1 of 1 seed)")
    said = "cannot be chosen, having predictions neither out of fold nor of validation tiles: b+softmax"
    assert (both["note"], alone["chosen_methods"], alone["note"]) == (said, "b+softmax (1 of 1 seed)", "")
    d = write_predictions(tmp_path, "a+svm", 1, folds=None)
    (none,) = tabulate(tmp_path, scores, [d, b], {"both": ["a+svm", "b+softmax"]})
    assert (none["oracle"], none["chosen"]) == ("0.6", "")
    assert none["note"].endswith("a+svm, b+softmax; none chosen: no variant was validated")
    with pytest.raises(ValueError, match=r"'both', d1/t, seed 1: .* predictions of each; found no file of b\+softmax"):
        tabulate(tmp_path, scores, [a], {"both": ["a+svm", "b+softmax"]})
    with pytest.raises(ValueError, match="a strategy must name its methods; found none in nothing"):
        tabulate(tmp_path, scores, [a], {"nothing": []})


def test_a_network_is_judged_by_the_validation_tiles(tmp_path):
    # seed 1: 3 of 4 validation tiles right against 5/8; seed 2: 1 of 4 against 5/8. A tile without a label is none
    scores = write_scores(tmp_path, {("d1", "t"): {"t+softmax": [0.6, 0.9], "t+svm": [0.5, 0.7]}})
    kept = {1: [RIGHT, RIGHT, RIGHT, WRONG, ("", "y")], 2: [RIGHT, WRONG, WRONG, WRONG]}
    files = [
        *(write_predictions(tmp_path, "t+softmax", seed, folds=None, kept=kept[seed]) for seed in (1, 2)),
        *(write_predictions(tmp_path, "t+svm", seed, folds=BETTER, saw_labels=True) for seed in (1, 2)),
    ]
    (row,) = tabulate(tmp_path, scores, files, {"fine-tuning": ["t+softmax", "t+svm"]})
    assert float(row["chosen"]) == pytest.approx((0.6 + 0.7) / 2)
    assert row["chosen_methods"] == "t+softmax (1 of 2 seeds), t+svm (1 of 2)"
    assert row["note"] == (
        "judged by the validation tiles, which may have chosen its epoch: t+softmax; validation score too high, since "
        "the network behind the features saw the labels: t+svm"
    )


def test_undefined_validation_scores_choose_nothing(tmp_path):
    scores = write_scores(tmp_path, {("d1", "t"): {"a+svm": [0.5], "b+svm": [0.6]}}, binary=[("d1", "t")])
    files = [write_predictions(tmp_path, name, 1, folds=[[RIGHT]], classes=("x", "y")) for name in ("a+svm", "b+svm")]
    (row,) = tabulate(tmp_path, scores, files, {"both": ["a+svm", "b+svm"]})
    assert (row["oracle"], row["chosen"], row["chosen_methods"]) == ("0.6", "", "")
    assert row["note"] == "none chosen: no fold of seed 1 has all classes"


def test_variants_without_a_score_are_named(tmp_path):
    scores = write_scores(tmp_path, {("d1", "t"): {"a+svm": [0.5], "b+svm": [None]}})
    (row,) = tabulate(tmp_path, scores, [], {"both": ["a+svm", "b+svm"]})
    assert (row["oracle"], row["chosen"], row["variants"]) == ("0.5", "0.5", "1")
    assert row["note"] == "without a score: b+svm"


def test_thirty_methods_on_eight_datasets_rank_as_scipy_ranks_them(tmp_path):
    random = np.random.default_rng(0)
    methods = [f"f{k:02d}+svm" for k in range(30)]
    # two digits, so that there are ties
    values = {(f"d{k}", "t"): {method: np.round(random.random(3), 2).tolist() for method in methods} for k in range(8)}
    rows = rank(tmp_path, write_scores(tmp_path, values), methods=methods, kinds=dict.fromkeys(methods, "svm"))
    scores = np.array([[np.mean(of[method]) for method in methods] for of in values.values()])
    expected = stats.rankdata(np.round(scores, 12), axis=1).mean(axis=0)
    assert {row["method"]: float(row["average_rank"]) for row in rows} == pytest.approx(
        dict(zip(methods, expected, strict=True))
    )
    assert [row["method"] for row in rows] == [methods[k] for k in np.argsort(-expected, kind="stable")]
