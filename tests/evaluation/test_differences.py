"""Differences between methods: by hand, against brute force, and how often their intervals hold the truth."""

from __future__ import annotations

import time

import numpy as np
import pytest

from histotransfer import predictions, seeds, store
from histotransfer.evaluation import differences, resampling


def write(
    folder,
    method,
    rows,
    *,
    seed=1,
    classes=("a", "b", "c"),
    dataset="d",
    task="t",
    split="s",
    unit="patient",
    untrained=False,
):
    """Write held-out predictions of rows (tile, group, true class or "", scores); return the file."""
    features, classifier = method.split("+")
    score = np.array([row[3] for row in rows], dtype=np.float64).reshape(len(rows), len(classes))
    path = folder / f"{dataset}-{task}-{split}-{method}-{seed}.h5"
    predictions.write_predictions(
        str(path),
        held_out=predictions.Predictions(
            tile=[str(row[0]) for row in rows],
            image=["i"] * len(rows),
            slide=["i"] * len(rows),
            group=[str(row[1]) for row in rows],
            true=np.array([classes.index(row[2]) if row[2] else -1 for row in rows], dtype=np.int16),
            score=score,
            probability=np.full(score.shape, 1 / len(classes)),
        ),
        out_of_fold=None,
        attributes=dict.fromkeys(predictions.ATTRIBUTES, "")
        | {"dataset": dataset, "task": task, "split": split, "seed": seed, "unit": unit, "group_unit": unit}
        | {
            "features": features,
            "classifier": classifier,
            "classes": list(classes),
            "chosen": {},
            "untrained": untrained,
        },
    )
    return str(path)


def compare(folder, files, *, methods=("f+a", "f+b"), bootstrap=400, master_seed=1, against="f+a"):
    table = folder / "differences.csv"
    differences.compare(
        predictions=files,
        table=str(table),
        methods=list(methods),
        reference=against,
        split="s",
        bootstrap=bootstrap,
        master_seed=master_seed,
    )
    return store.read_csv(table)


def interval(row):
    return float(row["low"]), float(row["high"])


A, B, C = np.eye(3)


def auc(true, score):
    """Share of pairs in which the second class scores higher, ties counting half; NaN without pairs."""
    pairs = np.sign(score[true == 1][:, None] - score[true == 0])
    return (pairs.mean() + 1) / 2 if pairs.size else np.nan


def test_differences_by_hand(tmp_path):
    # of patient p both methods are right in one of two tiles; of q only f+b is, in three of three
    tiles = [(0, "p", "a"), (1, "p", "a"), (2, "q", "b"), (3, "q", "b"), (4, "q", "b")]
    said = {"f+a": (A, B, C, C, C), "f+b": (C, A, B, B, B)}
    files = [
        write(tmp_path, name, [(*tile, one) for tile, one in zip(tiles, of, strict=True)]) for name, of in said.items()
    ]
    (row,) = compare(tmp_path, files)
    assert [row[name] for name in ("dataset", "task", "metric", "method", "reference")] == [
        "d",
        "t",
        "accuracy",
        "f+b",
        "f+a",
    ]
    assert float(row["difference"]) == pytest.approx(4 / 5 - 1 / 5)
    assert (row["groups"], row["unit"], row["seeds"], row["note"]) == ("2", "patient", "1", "")
    # a quarter of the resamples is p alone (0), a quarter q alone (1): the interval ends there
    assert interval(row) == (0, 1)


def test_the_reference_is_subtracted_and_has_no_row(tmp_path):
    tiles = [(0, "p", "a"), (1, "q", "a")]
    said = {"f+a": (A, A), "f+b": (A, B), "f+c": (B, B)}
    files = [
        write(tmp_path, name, [(*tile, one) for tile, one in zip(tiles, of, strict=True)]) for name, of in said.items()
    ]
    rows = compare(tmp_path, files, methods=["f+c", "f+a", "f+b"])
    assert [(row["method"], row["difference"]) for row in rows] == [("f+c", "-1.0"), ("f+b", "-0.5")]
    # the reference need not be one of the methods
    rows = compare(tmp_path, files, methods=["f+b"], against="f+c")
    assert [(row["method"], row["reference"], row["difference"]) for row in rows] == [("f+b", "f+c", "0.5")]


def simulated(groups, *, classes=("a", "b", "c"), tiles=6, skill=(0.5, 1.0), shared=1.0, seed=0):
    """Return rows for two methods whose errors go together, by `shared`, within a tile and within a group."""
    random = np.random.default_rng(seed)
    rows = {"f+a": [], "f+b": []}
    for group in groups:
        hard = random.normal()
        for tile in range(tiles):
            true = classes[random.integers(len(classes))]
            common = random.standard_normal(len(classes))
            for of, strength in zip(rows.values(), skill, strict=True):
                own = random.standard_normal(len(classes))
                right = np.array([name == true for name in classes])
                of.append(
                    (f"{group}-{tile}", group, true, (strength - 0.4 * hard) * right + shared * common + 0.5 * own)
                )
    return rows


@pytest.mark.parametrize("classes", [("a", "b", "c"), ("a", "b")])
def test_intervals_are_those_of_brute_force(tmp_path, classes):
    # three seeds whose test sets overlap; some resamples lack a seed's groups, or a class in them
    test_groups = {1: "pqrs", 2: "rstu", 3: "uvw"}
    rows = {seed: simulated(groups, classes=classes, seed=seed) for seed, groups in test_groups.items()}
    files = [write(tmp_path, name, of[name], seed=seed, classes=classes) for seed, of in rows.items() for name in of]
    (row,) = compare(tmp_path, files, bootstrap=300)

    def score(rows):
        true = np.array([classes.index(row[2]) for row in rows])
        scores = np.array([row[3] for row in rows])
        if len(classes) == 2:
            return auc(true, scores.reshape(-1, 2)[:, 1])
        return (scores.argmax(axis=1) == true).mean() if rows else np.nan

    def difference(drawn):
        found = []
        for of in rows.values():
            taken = {name: [row for group in drawn for row in of[name] if row[1] == group] for name in of}
            found.append(score(taken["f+b"]) - score(taken["f+a"]))
        return np.mean(found)

    groups = "pqrstuvw"
    random = seeds.generator(1, "bootstrap of differences", "d", "t", "s")
    values = [difference([groups[k] for k in drawn]) for drawn in random.integers(0, 8, size=(300, 8))]
    assert float(row["difference"]) == pytest.approx(difference(groups))
    assert interval(row) == pytest.approx(tuple(np.nanpercentile(values, [2.5, 97.5])))
    assert (row["metric"], row["groups"], row["seeds"]) == ("roc_auc" if len(classes) == 2 else "accuracy", "8", "3")
    lacking = int(np.isnan(values).sum())
    what = "a class in the test groups of a seed" if len(classes) == 2 else "all test groups of a seed"
    note = f"interval without the resamples in which it is undefined: {lacking} of 300 resamples lack {what}"
    assert row["note"] == (note if lacking > 15 else "")


@pytest.mark.parametrize("classes", [("a", "b", "c"), ("a", "b")])
def test_equal_predictions_differ_by_nothing(tmp_path, classes):
    rows = simulated("pqrstuvw", classes=classes)["f+a"]
    files = [write(tmp_path, name, rows, classes=classes) for name in ("f+a", "f+b")]
    (row,) = compare(tmp_path, files)
    assert (row["difference"], row["low"], row["high"]) == ("0.0", "0.0", "0.0")


@pytest.mark.parametrize("classes", [("a", "b", "c"), ("a", "b")])
def test_pairs_are_narrower_than_methods_apart(tmp_path, classes):
    groups = [f"p{k:02d}" for k in range(20)]
    rows = simulated(groups, classes=classes, shared=2.0)
    files = [write(tmp_path, name, of, classes=classes) for name, of in rows.items()]
    (row,) = compare(tmp_path, files, bootstrap=1000)
    low, high = interval(row)
    # the same groups under names of their own are drawn apart: a difference of two independent estimates
    random = np.random.default_rng(3)
    apart = []
    for _ in range(1000):
        values = []
        for of in rows.values():
            drawn = [row for k in random.integers(0, 20, 20) for row in of[6 * k : 6 * k + 6]]
            true, score = np.array([classes.index(one[2]) for one in drawn]), np.array([one[3] for one in drawn])
            values.append(auc(true, score[:, 1]) if len(classes) == 2 else (score.argmax(axis=1) == true).mean())
        apart.append(values[1] - values[0])
    unpaired = np.subtract(*np.percentile(apart, [97.5, 2.5]))
    assert 0 < high - low < 0.7 * unpaired


def test_seeds_with_the_same_test_groups_are_averaged(tmp_path):
    rows = simulated("pqrstuvw")
    one = [write(tmp_path, name, of, seed=1) for name, of in rows.items()]
    (alone,) = compare(tmp_path, one)
    # a second seed that says the same changes nothing; the same groups are drawn for both
    same = [write(tmp_path, name, of, seed=2) for name, of in rows.items()]
    (both,) = compare(tmp_path, one + same)
    assert {name: both[name] for name in both if both[name] != alone[name]} == {"seeds": "2"}
    # and one in which the methods have changed places takes the difference away, in every resample
    turned = [write(tmp_path, name, of, seed=2) for name, of in zip(rows, reversed(rows.values()), strict=True)]
    (none,) = compare(tmp_path, one + turned)
    assert (none["difference"], none["low"], none["high"]) == ("0.0", "0.0", "0.0")


def test_all_methods_are_scored_on_the_same_resamples(tmp_path):
    rows = simulated("pqrstuvw")
    files = [write(tmp_path, name, of) for name, of in rows.items()]
    (alone,) = compare(tmp_path, files)
    files.append(write(tmp_path, "f+c", rows["f+b"]))
    b, c = compare(tmp_path, files, methods=["f+a", "f+b", "f+c"])
    assert b == alone
    assert {**c, "method": "f+b"} == b
    (other,) = compare(tmp_path, files, master_seed=2)
    assert other["difference"] == alone["difference"]
    assert interval(other) != interval(alone)


@pytest.mark.parametrize("classes", [("a", "b", "c"), ("a", "b")])
def test_chunks_change_nothing(tmp_path, monkeypatch, classes):
    rows = simulated("pqrstuvw", classes=classes)
    files = [write(tmp_path, name, of, classes=classes) for name, of in rows.items()]
    whole = compare(tmp_path, files)
    monkeypatch.setattr(resampling, "_CHUNK", 7 * 48)
    assert compare(tmp_path, files) == whole


def test_tiles_without_a_label_are_not_compared(tmp_path):
    rows = simulated("pqrstuvw")
    expected = compare(tmp_path, [write(tmp_path, name, of) for name, of in rows.items()])
    more = {name: [("x", "o", "", B), *of, ("y", "p", "", C)] for name, of in rows.items()}
    assert compare(tmp_path, [write(tmp_path, name, of) for name, of in more.items()]) == expected


def test_where_there_is_no_interval(tmp_path):
    one_group = [write(tmp_path, name, [(0, "p", "a", A), (1, "p", "b", A)]) for name in ("f+a", "f+b")]
    (row,) = compare(tmp_path, one_group)
    assert (row["difference"], row["low"], row["note"]) == ("0.0", "", "no interval: it takes two patients to resample")
    files = [write(tmp_path, name, of) for name, of in simulated("pqrs").items()]
    (row,) = compare(tmp_path, files, bootstrap=0)
    assert (row["low"], row["note"]) == ("", "")
    # each class in one of two patients: half of the resamples have both
    apart = [(0, "p", "a", A[:2]), (1, "p", "a", B[:2]), (2, "q", "b", A[:2])]
    files = [write(tmp_path, name, apart, classes=("a", "b")) for name in ("f+a", "f+b")]
    (row,) = compare(tmp_path, files, bootstrap=1000)
    assert row["difference"] == "0.0"
    assert row["note"].endswith(" of 1000 resamples lack a class in the test groups of a seed")


def test_what_is_undefined_or_missing_is_told(tmp_path):
    two = ("a", "b")
    rows = simulated("pqrstuvw", classes=two)
    files = [write(tmp_path, name, of, classes=two) for name, of in rows.items()]
    lacking = [("z", "p", "a", A[:2]), ("y", "q", "a", B[:2])]
    files += [write(tmp_path, name, lacking, classes=two, seed=2) for name in rows]
    (row,) = compare(tmp_path, files)
    (alone,) = compare(tmp_path, files[:2])
    assert (row["difference"], row["seeds"]) == (alone["difference"], "1")
    assert row["note"] == "seed 2: undefined: the test groups lack a class"
    (row,) = compare(tmp_path, files[2:])
    assert (row["difference"], row["low"], row["seeds"]) == ("", "", "0")
    # a seed without one of the methods, and a dataset without one of them
    third = write(tmp_path, "f+a", rows["f+a"], classes=two, seed=3)
    (row,) = compare(tmp_path, [*files[:2], third])
    assert (row["difference"], row["seeds"], row["note"]) == (
        alone["difference"],
        "1",
        "seed 3 without predictions of f+b",
    )
    other = write(tmp_path, "f+a", rows["f+a"], classes=two, dataset="e")
    one, row = compare(tmp_path, [*files[:2], other])
    assert one == alone
    assert (row["dataset"], row["difference"], row["note"]) == ("e", "", "seed 1 without predictions of f+b")


def test_other_splits_and_methods_are_passed_over(tmp_path):
    rows = simulated("pqrs")
    files = [write(tmp_path, name, of) for name, of in rows.items()]
    expected = compare(tmp_path, files)
    more = [write(tmp_path, "f+c", rows["f+a"]), *(write(tmp_path, name, rows["f+a"], split="other") for name in rows)]
    assert compare(tmp_path, more + files) == expected


def test_methods_that_cannot_be_compared(tmp_path):
    rows = simulated("pqrs")
    a = write(tmp_path, "f+a", rows["f+a"])
    for change, what in (
        (lambda tile, group, true, score: (f"{tile}x", group, true, score), "tiles"),
        (lambda tile, group, true, score: (tile, f"{group}x", true, score), "groups"),
        (lambda tile, group, true, score: (tile, group, "a", score), "true classes"),
    ):
        b = write(tmp_path, "f+b", [change(*row) for row in rows["f+b"]])
        with pytest.raises(
            ValueError, match=rf"f\+b-1\.h5: .* same held-out {what}, those of .*f\+a-1\.h5; found \d+ of 24"
        ):
            compare(tmp_path, [a, b])
    b = write(tmp_path, "f+b", rows["f+b"][:-1])
    with pytest.raises(ValueError, match="found 1 of 24 that differ"):
        compare(tmp_path, [a, b])
    with pytest.raises(ValueError, match=r"with split 's'; f\+b has none, found those of f\+a"):
        compare(tmp_path, [a])
    with pytest.raises(ValueError, match=r"named once each; found f\+a twice"):
        compare(tmp_path, [a], methods=["f+a", "f+a"])
    b = write(tmp_path, "f+b", rows["f+b"], classes=("a", "c", "b"))
    with pytest.raises(ValueError, match=r"must have the classes a, b, c in this order; found a, c, b"):
        compare(tmp_path, [a, b])


def test_intervals_hold_the_truth_in_about_95_of_100_samples(tmp_path):
    # patients whose share of gained tiles varies: -1 to 1 a patient, 0.1 on average; three tiles a patient
    random, files = np.random.default_rng(5), []
    for sample in range(120):
        rows = {"f+a": [], "f+b": []}
        for group in range(25):
            gain = random.choice([-1, 0, 1], p=[0.25, 0.4, 0.35])
            for tile in range(3):
                rows["f+a"].append((f"{group}-{tile}", group, "a", A if gain < 0 else B))
                rows["f+b"].append((f"{group}-{tile}", group, "a", A if gain > 0 else B))
        files += [write(tmp_path, name, of, dataset=f"d{sample}") for name, of in rows.items()]
    found = compare(tmp_path, files, bootstrap=300)
    assert len(found) == 120
    covered = np.mean([float(row["low"]) <= 0.1 <= float(row["high"]) for row in found])
    # the standard error of the share is 0.02; a percentile interval of 25 groups is a little narrow
    assert 0.89 <= covered <= 0.99


def test_thirty_methods_are_compared_quickly(tmp_path):
    groups = [f"p{k:02d}" for k in range(30)]
    random = np.random.default_rng(0)
    files, rows = [], []
    for task, classes in (("many", ("a", "b", "c")), ("two", ("a", "b"))):
        for seed in (1, 2):
            tiles = [(k, groups[k % 30], classes[random.integers(len(classes))]) for k in range(900)]
            for k in range(30):
                method = f"f{k:02d}+svm"
                score = random.standard_normal((900, len(classes)))
                score[range(900), [classes.index(tile[2]) for tile in tiles]] += 0.05 * k
                said = [(*tile, one) for tile, one in zip(tiles, score, strict=True)]
                files.append(write(tmp_path, method, said, task=task, seed=seed, classes=classes))
    methods = [f"f{k:02d}+svm" for k in range(30)]
    started = time.perf_counter()
    rows = compare(tmp_path, files, methods=methods, against="f00+svm", bootstrap=1000)
    assert time.perf_counter() - started < 30
    assert len(rows) == 2 * 29
    best = [row for row in rows if row["method"] == "f29+svm"]
    assert all(float(row["low"]) > 0.2 for row in best)


def test_a_difference_to_or_from_an_untrained_network_says_so(tmp_path):
    rows = [(k, f"p{k}", "a", A) for k in range(3)]
    files = [write(tmp_path, method, rows, untrained=method == "f+b") for method in ("f+a", "f+b", "f+c")]
    every = ("f+a", "f+b", "f+c")
    marks = ("method", "untrained", "reference_untrained")
    to_trained = compare(tmp_path, files, methods=every, bootstrap=0)
    assert [tuple(row[name] for name in marks) for row in to_trained] == [("f+b", "yes", "no"), ("f+c", "no", "no")]
    to_untrained = compare(tmp_path, files, methods=every, bootstrap=0, against="f+b")
    assert [tuple(row[name] for name in marks) for row in to_untrained] == [("f+a", "no", "yes"), ("f+c", "no", "yes")]
