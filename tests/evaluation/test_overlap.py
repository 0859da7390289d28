"""Overlaps between selections and shares of importance, on numbers that can be checked by hand."""

from __future__ import annotations

import cohort_factory
import numpy as np
import pytest
from score_factory import factors

from histotransfer import predictions, store
from histotransfer.classifiers import elimination, fitting
from histotransfer.classifiers.subsets import Subsets, write_subsets
from histotransfer.definitions import LinearSvm, ModelFiles
from histotransfer.evaluation import importance, overlap


def write(folder, name, order, importances, k_min, *, scores=(0.5, 0.9, 0.8), sizes=(1, 3, 5), n=5, notice=""):
    order = np.array(order)
    said = {"columns": [["net", "last", 0, n]], "notice": notice}
    found = Subsets(order, {0: order}, np.array(importances), np.array(sizes), np.array(scores), k_min, said)
    write_subsets(str(folder / f"{name}.h5"), found)
    return str(folder / f"{name}.h5")


def tabulate(folder, subsets, runs):
    paths = {name: str(folder / f"{name}.csv") for name in ("pairs", "common", "kept")}
    overlap.tabulate(subsets=subsets, runs=runs, **paths)
    return {name: store.read_csv(path) for name, path in paths.items()}


def test_what_selections_have_in_common(tmp_path):
    subsets = [
        write(tmp_path, "a", [4, 2, 0, 1, 3], [0.1, 0.2, 0.3, 0.0, 0.4], 3),
        write(tmp_path, "b", [0, 1, 2, 3, 4], [0.4, 0.1, 0.2, 0.25, 0.05], 1, notice="far too small"),
        write(tmp_path, "c", [3, 0, 2, 4, 1], [0.2, 0.3, 0.1, 0.35, 0.05], 5, scores=(0.2, 0.5, 0.7)),
    ]
    tasks = [("d", "t"), ("d", "u"), ("e", "t")]
    found = tabulate(tmp_path, subsets, [factors("net", dataset=d, task=t) for d, t in tasks])
    said = {"features": "net", "seed": "1"}
    assert found["pairs"] == [
        # {0, 2, 4} and {0}: one in common; by chance 3 x 1 / 5
        said
        | {"first": "d/t", "second": "d/u", "size_first": "3", "size_second": "1", "common": "1"}
        | {"jaccard": repr(1 / 3), "share_of_smaller": "1.0", "expected_common": "0.6"},
        said
        | {"first": "d/t", "second": "e/t", "size_first": "3", "size_second": "5", "common": "3"}
        | {"jaccard": "0.6", "share_of_smaller": "1.0", "expected_common": "3.0"},
        said
        | {"first": "d/u", "second": "e/t", "size_first": "1", "size_second": "5", "common": "1"}
        | {"jaccard": "0.2", "share_of_smaller": "1.0", "expected_common": "1.0"},
    ]
    # places of features 0 to 4: a 4 3 2 5 1, b 1 4 3 2 5, c 3 2 4 1 5; feature 0, 1 and 2 are in every top 4
    assert found["common"] == [said | {"datasets": "3", "k": "4", "share": "0.8"}]
    kept = {"features": "net", "seed": "1", "n_features": "5", "note": ""}
    assert found["kept"] == [
        kept | {"dataset": "d", "task": "t", "k_min": "3", "share": "0.6", "best_score": "0.9", "score": "0.9"},
        kept
        | {"dataset": "d", "task": "u", "k_min": "1", "share": "0.2", "best_score": "0.9", "score": "0.5"}
        | {"note": "net, d/u, seed 1: far too small"},
        kept | {"dataset": "e", "task": "t", "k_min": "5", "share": "1.0", "best_score": "0.7", "score": "0.7"},
    ]


def test_seeds_and_feature_sets_are_compared_with_their_own(tmp_path):
    one = write(tmp_path, "a", [0, 1, 2, 3, 4], [0.4, 0.3, 0.2, 0.1, 0.0], 1)
    other = write(tmp_path, "b", [2, 1, 0, 3, 4], [0.0, 0.1, 0.4, 0.3, 0.2], 1)
    runs = [
        factors(features, dataset=dataset, seed=seed)
        for features in ("net", "wide")
        for seed in (1, 2)
        for dataset in ("d", "e")
    ]
    found = tabulate(tmp_path, [one, other] * 4, runs)
    assert [(row["features"], row["seed"], row["common"]) for row in found["pairs"]] == [
        ("net", "1", "0"),
        ("net", "2", "0"),
        ("wide", "1", "0"),
        ("wide", "2", "0"),
    ]
    # places: 1 2 3 4 5 and 5 4 1 2 3, so feature 2 is the first that both have
    assert {(row["k"], row["share"]) for row in found["common"]} == {("3", "0.6")}
    alone = tabulate(tmp_path, [one], runs[:1])
    assert (alone["pairs"], alone["common"], len(alone["kept"])) == ([], [], 1)
    longer = write(tmp_path, "c", range(6), [0] * 6, 1, n=6)
    with pytest.raises(ValueError, match=r"c\.h5: overlaps are those of the same features, .*5\]\]; found .*6\]\]"):
        tabulate(tmp_path, [one, longer], runs[:2])


@pytest.mark.parametrize(
    ("importances", "expected"),
    [
        ([[0.5, 0.3, 0.2], [0.6, 0.3, 0.1]], 1),
        ([[0.5, 0.3, 0.2], [0.2, 0.3, 0.5]], 2),
        ([[0.5, 0.3, 0.2], [0.2, 0.3, 0.5], [0.5, 0.2, 0.3]], 3),
        ([[0.0, 0.0, 0.0], [0.5, 0.5, 0.0]], 1),  # of equal importances the earlier column comes first
    ],
)
def test_smallest_common_top(importances, expected):
    assert overlap.smallest_common_top([np.array(values) for values in importances]) == expected


def test_curves_are_averaged_over_the_seeds_that_have_a_size(tmp_path):
    def curve(name, rows, k_min):
        path = str(tmp_path / f"{name}.tsv")
        columns = ("size", "fold", "score", "pass", "kept")
        store.write_table(
            path,
            columns,
            [
                {"size": size, "fold": fold, "score": score, "pass": "coarse", "kept": "yes" if size == k_min else "no"}
                for size, mean in rows
                for fold, score in (("0", 0.0), ("mean", mean))
            ],
        )
        return path

    curves = [
        curve("a", [(1, 0.5), (2, 0.75), (4, 1.0)], 2),
        curve("b", [(1, 0.25), (3, 0.5), (4, 0.5)], 4),
        curve("c", [(1, 0.5), (4, None)], 1),
    ]
    runs = [factors(seed=1), factors(seed=2), factors(dataset="e")]
    overlap.curve(curves=curves, runs=runs, table=str(tmp_path / "t.csv"))
    assert [list(row.values()) for row in store.read_csv(tmp_path / "t.csv")] == [
        ["d", "t", "1", "0.25", "0.375", "2", "0"],
        ["d", "t", "2", "0.5", "0.75", "1", "1"],
        ["d", "t", "3", "0.75", "0.5", "1", "0"],
        ["d", "t", "4", "1.0", "0.75", "2", "1"],
        ["e", "t", "1", "0.25", "0.5", "1", "1"],
        ["e", "t", "4", "1.0", "", "0", "0"],
    ]


def test_importance_is_shared_out_from_the_most_important_feature_on():
    # in order: 0.4 (second source), 0.25 (first), 0.15 (second), 0.1, 0.1 (first, third)
    found = importance.shares_of_sources(np.array([0.25, 0.1, 0.4, 0.15, 0.1]), [2, 2, 1])
    assert found == pytest.approx(
        np.array(
            [
                [0.0, 0.0, 0.25, 0.35],
                [0.4, 0.4, 0.4, 0.55],
                [0.0, 0.0, 0.0, 0.1],
            ]
        )
    )
    # a part that is filled exactly takes in no further feature
    assert importance.shares_of_sources(np.array([0.5, 0.5]), [1, 1])[:, 2].tolist() == [0.5, 0.0]
    assert importance.shares_of_sources(np.zeros(3), [2, 1]).tolist() == [[0.0] * 4] * 2


@pytest.fixture
def merged(tmp_path):
    """Forests on two seeds' features of two networks, of which the first brings all information."""
    random = np.random.default_rng(0)
    y = np.arange(60) % 2
    paths = {"models": [], "predictions": [], "runs": []}
    for seed in (1, 2):
        x = random.standard_normal((60, 8)).astype(np.float32)
        x[:, 1] += 9 * y
        # the second model takes only some of the columns
        columns = None if seed == 1 else np.array([1, 5, 6])
        forest = elimination.Forest(seed=seed, trees=10).grow(x if columns is None else x[:, columns], y, 1)
        model, predicted = str(tmp_path / f"{seed}.skops"), str(tmp_path / f"{seed}.h5")
        fitting.save_model(model, fitting.TileClassifier(forest, ["a", "b"], None, columns))
        write_attributes(predicted)
        paths["models"].append(model)
        paths["predictions"].append(predicted)
        paths["runs"].append(factors(seed=seed))
    return paths


def write_attributes(path, **changes):
    one = np.array([[1.0, 0.0]])
    part = predictions.Predictions(["t"], ["i"], ["s"], ["g"], np.array([0]), one, one)
    said = dict.fromkeys(predictions.ATTRIBUTES, "") | {"classes": ["a", "b"], "chosen": {}, "untrained": False}
    said |= {"columns": [["vgg16", "pool", 3], ["resnet50", "avg", 5]]} | changes
    predictions.write_predictions(path, held_out=part, out_of_fold=None, attributes=said)


def test_shares_are_averaged_over_forests(tmp_path, merged):
    importance.share(**merged, table=str(tmp_path / "t.csv"))
    rows = store.read_csv(tmp_path / "t.csv")
    assert [(row["source"], row["features"], row["feature_share"], row["untrained"]) for row in rows] == [
        ("vgg16", "3", "0.375", "no"),
        ("resnet50", "5", "0.625", "no"),
    ]
    forests = [fitting.load_model(path).estimator.feature_importances_ for path in merged["models"]]
    expected = (forests[0][:3].sum() + forests[1][0]) / 2
    assert float(rows[0]["importance_100"]) == pytest.approx(expected)
    assert float(rows[1]["importance_100"]) == pytest.approx(1 - expected)
    # feature 1 is the most important one in both
    assert float(rows[0]["importance_10"]) == pytest.approx((forests[0][1] + forests[1][0]) / 2)
    assert float(rows[1]["importance_10"]) == 0
    for row in rows:
        values = [float(row[f"importance_{part}"]) for part in (10, 25, 50, 100)]
        assert values == sorted(values)


def test_sources_go_by_what_tells_them_apart(tmp_path, merged):
    for path in merged["predictions"]:
        write_attributes(path, columns=[["resnet50", "conv2", 3], ["resnet50", "conv3", 5]], untrained=True)
    importance.share(**merged, table=str(tmp_path / "t.csv"))
    found = [(row["source"], row["untrained"]) for row in store.read_csv(tmp_path / "t.csv")]
    assert found == [("conv2", "yes"), ("conv3", "yes")]


def test_importances_that_cannot_be_averaged(tmp_path, merged):
    write_attributes(merged["predictions"][1], columns=[["vgg16", "pool", 8]])
    with pytest.raises(ValueError, match=r"2\.skops \(d/t, seed 2\): importances are averaged over the same features"):
        importance.share(**merged, table=str(tmp_path / "t.csv"))
    inputs = cohort_factory.separable(tmp_path).write()
    split_file, split = cohort_factory.split_by_patient(tmp_path, inputs["slides_table"])
    fitting.train(
        features=inputs["features"],
        tables=cohort_factory.tables_of(inputs, split_file),
        files=ModelFiles(merged["models"][0], merged["predictions"][0], str(tmp_path / "tuning.tsv")),
        classifier=LinearSvm("libsvm", (0.1,)),
        feature_set=cohort_factory.FEATURES,
        classes=cohort_factory.CLASSES,
        split=split,
        factors=cohort_factory.FACTORS,
        master_seed=1,
    )
    with pytest.raises(ValueError, match="importances are those of ExtraTrees; found OneVsOneMargins"):
        importance.share(**merged, table=str(tmp_path / "t.csv"))
    assert not (tmp_path / "t.csv").exists()
