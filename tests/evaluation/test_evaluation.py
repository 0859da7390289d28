"""Scores: worked by hand at tile and slide level, intervals by groups, notes where a number cannot be."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as reference

from histotransfer import predictions, store
from histotransfer.evaluation import resampling
from histotransfer.evaluation import scores as evaluation_scores
from histotransfer.evaluation.scores import collect


def write(folder, rows, *, name="p", classes=("a", "b"), **attributes):
    """Write predictions of rows (slide, group, true class or "", probabilities); return the file."""
    probability = np.array([row[3] for row in rows], dtype=np.float64).reshape(len(rows), len(classes))
    path = str(folder / f"{name}.h5")
    predictions.write_predictions(
        path,
        held_out=predictions.Predictions(
            tile=[f"{k}_0" for k in range(len(rows))],
            image=[row[0] for row in rows],
            slide=[row[0] for row in rows],
            group=[row[1] for row in rows],
            true=np.array([classes.index(row[2]) if row[2] else -1 for row in rows], dtype=np.int16),
            score=probability,
            probability=probability,
        ),
        out_of_fold=None,
        attributes=dict.fromkeys(predictions.ATTRIBUTES, "")
        | {"dataset": "d", "task": "t", "split": "s", "seed": 1, "unit": "patient", "group_unit": "patient"}
        | {"features": "f", "classifier": "c", "weights": "imagenet", "untrained": False}
        | {"classes": list(classes), "chosen": {}, **attributes},
    )
    return path


def score(folder, path, *, bootstrap=200, master_seed=1):
    """Score a file; return rows by level, metric and class, and the counts by level, true and predicted class."""
    scores, confusion = str(folder / "scores.tsv"), str(folder / "confusion.tsv")
    evaluation_scores.score(
        predictions=path, scores=scores, confusion=confusion, bootstrap=bootstrap, master_seed=master_seed
    )
    rows = {(row["level"], row["metric"], row["class"]): row for row in store.read_table(scores)}
    counts = {(row["level"], row["true"], row["predicted"]): int(row["count"]) for row in store.read_table(confusion)}
    return rows, counts


def value(rows, level, metric, name=""):
    return float(rows[level, metric, name]["value"])


A, B, HALF = [0.9, 0.1], [0.2, 0.8], [0.5, 0.5]

#: Three slides of three patients. Slide 1 has a wrong tile and is right on average; slide 2 is wrong on average.
ROWS = [
    ("s1", "p1", "a", A),
    ("s1", "p1", "a", A),
    ("s1", "p1", "a", B),
    ("s2", "p2", "b", A),
    ("s3", "p3", "b", B),
]


def tile_loss(rows):
    return -sum(np.log(p["ab".index(true)]) for _, _, true, p in rows) / len(rows)


def test_tiles_and_slides_by_hand(tmp_path):
    rows, counts = score(tmp_path, write(tmp_path, ROWS))
    assert value(rows, "tile", "accuracy") == 3 / 5
    assert value(rows, "tile", "eta_p") == 3 / 5
    assert value(rows, "tile", "eta_w") == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert value(rows, "tile", "eta_total") == pytest.approx(3 / 5 * 5 / 9)
    assert value(rows, "tile", "balanced_accuracy") == pytest.approx((2 / 3 + 1 / 2) / 2)
    # of 3 x 2 pairs the second class scores higher in two, and equal in three
    assert value(rows, "tile", "roc_auc") == pytest.approx((2 + 3 / 2) / 6)
    assert value(rows, "tile", "roc_auc", "b") == value(rows, "tile", "roc_auc")
    assert value(rows, "tile", "log_loss") == pytest.approx(tile_loss(ROWS))
    slide_loss = -(np.log((0.9 + 0.9 + 0.2) / 3) + np.log(0.1) + np.log(0.8)) / 3
    assert value(rows, "slide", "log_loss") == pytest.approx(slide_loss)
    assert rows["tile", "accuracy", ""]["n"] == "5"
    assert rows["tile", "recall", "b"]["n"] == "2"
    assert (rows["tile", "accuracy", ""]["groups"], rows["tile", "accuracy", ""]["unit"]) == ("3", "patient")
    assert value(rows, "slide", "accuracy") == pytest.approx(2 / 3)
    assert rows["slide", "accuracy", ""]["n"] == "3"
    assert ("slide", "eta_p", "") not in rows
    assert [counts["tile", *pair] for pair in ("aa", "ab", "ba", "bb")] == [2, 1, 1, 1]
    assert [counts["slide", *pair] for pair in ("aa", "ab", "ba", "bb")] == [1, 0, 1, 1]


def test_accuracy_counts_the_highest_score_and_not_the_probability(tmp_path):
    path = str(tmp_path / "p.h5")
    write(tmp_path, ROWS)
    held_out, _, said = predictions.read_predictions(path)
    turned = predictions.Predictions(**{**vars(held_out), "score": held_out.score[:, ::-1]})
    predictions.write_predictions(path, held_out=turned, out_of_fold=None, attributes=said)
    rows, _ = score(tmp_path, path)
    assert value(rows, "tile", "accuracy") == 2 / 5
    assert value(rows, "slide", "accuracy") == pytest.approx(2 / 3)
    # what the probabilities are worth does not depend on what decides
    assert value(rows, "tile", "log_loss") == pytest.approx(tile_loss(ROWS))


def test_tiles_without_a_label_are_not_scored(tmp_path):
    expected, _ = score(tmp_path, write(tmp_path, ROWS))
    more = [("s0", "p0", "", B), *ROWS, ("s1", "p1", "", B), ("s4", "p4", "", A)]
    rows, counts = score(tmp_path, write(tmp_path, more))
    assert rows == expected
    assert sum(count for key, count in counts.items() if key[0] == "tile") == 5


def noisy(n_groups, tiles, *, classes=("a", "b", "c"), slides_per_group=1, seed=0):
    random = np.random.default_rng(seed)
    rows = []
    for group in range(n_groups):
        index = group % len(classes)
        skill = random.normal(1, 0.5)
        for tile in range(tiles):
            p = np.exp(random.standard_normal(len(classes)) + skill * np.eye(len(classes))[index])
            rows.append((f"s{group}-{tile % slides_per_group}", f"p{group:02d}", classes[index], p / p.sum()))
    return rows


def test_metrics_agree_with_scikit_learn(tmp_path):
    classes = ("a", "b", "c")
    rows = noisy(12, 10)
    found, _ = score(tmp_path, write(tmp_path, rows, classes=classes))
    true, p = np.array([classes.index(row[2]) for row in rows]), np.array([row[3] for row in rows])
    predicted = p.argmax(axis=1)
    assert value(found, "tile", "roc_auc") == pytest.approx(reference.roc_auc_score(true, p, multi_class="ovr"))
    for k, name in enumerate(classes):
        precision = reference.average_precision_score(true == k, p[:, k])
        assert value(found, "tile", "pr_auc", name) == pytest.approx(precision)
    assert value(found, "tile", "log_loss") == pytest.approx(reference.log_loss(true, p))
    expected = reference.precision_recall_fscore_support(true, predicted, average="macro")
    for metric, wanted in zip(("precision", "recall", "f1"), expected, strict=False):
        assert value(found, "tile", metric) == pytest.approx(wanted)


def test_interval_is_that_of_resampled_groups(tmp_path):
    rows = noisy(15, 20, slides_per_group=2)
    found, _ = score(tmp_path, write(tmp_path, rows, classes=("a", "b", "c")), bootstrap=2000)
    # the same by hand, with chance of its own: patients with replacement, all their tiles with them
    group = np.array([row[1] for row in rows])
    true, p = np.array(["abc".index(row[2]) for row in rows]), np.array([row[3] for row in rows])
    names, random = np.unique(group), np.random.default_rng(77)
    accuracy, auc, slides = [], [], []
    for _ in range(2000):
        drawn = [np.flatnonzero(group == name) for name in random.choice(names, len(names))]
        chosen = np.concatenate(drawn)
        accuracy.append((p[chosen].argmax(axis=1) == true[chosen]).mean())
        a = true[chosen] == 0
        auc.append(reference.roc_auc_score(a, p[chosen, 0]) if 0 < a.sum() < len(a) else np.nan)
        # each patient has two slides of equally many tiles
        slides.append(np.mean([(p[one].argmax(axis=1) == true[one]).mean() for one in drawn]))
    for metric, name, values in (("accuracy", "", accuracy), ("roc_auc", "a", auc), ("eta_w", "", slides)):
        low, high = np.nanpercentile(values, [2.5, 97.5])
        row = found["tile", metric, name]
        assert float(row["low"]) == pytest.approx(low, abs=0.02)
        assert float(row["high"]) == pytest.approx(high, abs=0.02)
        assert float(row["low"]) < float(row["value"]) < float(row["high"])
    # tiles of a patient resemble each other, so resampling single tiles would look more certain than it is
    tiles = [(group, f"t{k}", *rest) for k, (group, _, *rest) in enumerate(rows)]
    single, _ = score(tmp_path, write(tmp_path, tiles, classes=("a", "b", "c"), group_unit="tile"))
    width = {
        name: float(of["tile", "accuracy", ""]["high"]) - float(of["tile", "accuracy", ""]["low"])
        for name, of in (("patient", found), ("tile", single))
    }
    assert width["tile"] < 0.75 * width["patient"]


def test_the_same_seed_gives_the_same_file_and_pairs_methods(tmp_path):
    rows = noisy(12, 5)
    one, _ = score(tmp_path, write(tmp_path, rows, classes=("a", "b", "c")))
    text = (tmp_path / "scores.tsv").read_bytes()
    other, _ = score(tmp_path, write(tmp_path, rows, classes=("a", "b", "c"), classifier="other", features="g"))
    assert (tmp_path / "scores.tsv").read_bytes() == text
    assert one == other
    seeded, _ = score(tmp_path, str(tmp_path / "p.h5"), master_seed=2)
    assert seeded["tile", "accuracy", ""]["low"] != one["tile", "accuracy", ""]["low"]


def test_chunks_change_nothing(tmp_path, monkeypatch):
    path = write(tmp_path, noisy(12, 5), classes=("a", "b", "c"))
    score(tmp_path, path)
    text = (tmp_path / "scores.tsv").read_bytes()
    monkeypatch.setattr(resampling, "_CHUNK", 7 * 60)
    score(tmp_path, path)
    assert (tmp_path / "scores.tsv").read_bytes() == text


def test_one_group_has_no_interval(tmp_path):
    rows, _ = score(tmp_path, write(tmp_path, [("s1", "p1", "a", A), ("s2", "p1", "b", A)]))
    row = rows["tile", "accuracy", ""]
    assert (row["value"], row["low"], row["high"]) == ("0.5", "", "")
    assert row["note"] == "no interval: it takes two patients to resample"


def test_no_resamples_asked_for(tmp_path):
    rows, _ = score(tmp_path, write(tmp_path, ROWS), bootstrap=0)
    assert (rows["tile", "accuracy", ""]["low"], rows["tile", "accuracy", ""]["note"]) == ("", "")


def test_class_that_is_not_in_the_test_groups(tmp_path):
    rows, counts = score(tmp_path, write(tmp_path, [(*row[:3], [*row[3], 0]) for row in ROWS], classes=("a", "b", "c")))
    assert value(rows, "tile", "accuracy") == 3 / 5
    absent = "undefined: absent from the test groups: c"
    undefined = ("roc_auc", "pr_auc", "precision", "recall", "f1", "balanced_accuracy")
    assert all(rows["tile", metric, ""]["value"] == "" for metric in undefined)
    assert {rows["tile", metric, ""]["note"] for metric in undefined} == {absent}
    assert rows["tile", "recall", "c"]["note"] == absent
    assert value(rows, "tile", "recall", "b") == 1 / 2
    assert counts["tile", "c", "c"] == 0
    alone, _ = score(tmp_path, write(tmp_path, ROWS[:3]))
    assert alone["tile", "roc_auc", "a"]["note"] == "undefined: the test groups hold no other class than a"
    assert value(alone, "tile", "recall", "a") == pytest.approx(2 / 3)


def test_resamples_without_a_class_are_counted(tmp_path):
    # class b in one of six patients: a resample lacks it with probability (5/6)^6 = 0.33
    rows = [(f"s{k}", f"p{k}", "b" if k == 0 else "a", B if k == 0 else A) for k in range(6)]
    found, _ = score(tmp_path, write(tmp_path, rows), bootstrap=1000)
    note = found["tile", "recall", "b"]["note"]
    assert note.startswith("interval without the resamples in which it is undefined: ")
    left_out = int(note.split(": ")[1].split()[0])
    assert left_out == pytest.approx(335, abs=60)
    assert found["tile", "accuracy", ""]["note"] == ""
    # one patient a class: three in four resamples lack one, and the rest are all alike
    rows = [(f"s{k}", f"p{k}", "abc"[k], np.eye(3)[k]) for k in range(3)]
    found, _ = score(tmp_path, write(tmp_path, rows, classes=("a", "b", "c")), bootstrap=1000)
    row = found["slide", "balanced_accuracy", ""]
    assert (row["value"], row["low"]) == ("1.0", "")
    assert row["note"].startswith("no interval: 7")


def test_slides_of_several_classes_have_no_slide_level(tmp_path):
    rows, counts = score(tmp_path, write(tmp_path, [*ROWS, ("s3", "p3", "a", HALF)]))
    found = [row for key, row in rows.items() if key[0] == "slide"]
    assert {row["value"] for row in found} == {""}
    assert {row["note"] for row in found} == {
        "a slide has no class of its own: 1 of 3 slides have tiles of several classes"
    }
    assert not [key for key in counts if key[0] == "slide"]
    assert value(rows, "tile", "accuracy") == pytest.approx(4 / 6)


def test_slides_are_resampled_where_groups_are_finer(tmp_path):
    rows = [(slide, f"{slide}/{k}", true, p) for k, (slide, _, true, p) in enumerate(ROWS)]
    found, _ = score(tmp_path, write(tmp_path, rows, unit="tile", group_unit="tile"))
    assert (found["tile", "accuracy", ""]["unit"], found["tile", "accuracy", ""]["groups"]) == ("tile", "5")
    assert (found["slide", "accuracy", ""]["unit"], found["slide", "accuracy", ""]["groups"]) == ("slide", "3")


def test_no_labelled_tile_at_all(tmp_path):
    rows, counts = score(tmp_path, write(tmp_path, [("s1", "p1", "", A), ("s2", "p2", "", B)]))
    assert {row["value"] for row in rows.values()} == {""}
    assert {row["note"] for row in rows.values()} == {"no tile of the test groups has a label"}
    assert counts == {}


def test_collected_scores_are_sorted_and_say_untrained(tmp_path):
    paths = [
        write(tmp_path, ROWS, name="0", seed=10, features="net"),
        write(tmp_path, ROWS, name="1", seed=9, features="net", weights="weights/own.h5", share_groups="a reason"),
        write(tmp_path, ROWS, name="2", seed=9, features="blank", weights="random", untrained=True),
    ]
    scores = []
    for k, path in enumerate(paths):
        scores.append(str(tmp_path / f"{k}.tsv"))
        evaluation_scores.score(
            predictions=path, scores=scores[-1], confusion=str(tmp_path / "c.tsv"), bootstrap=20, master_seed=1
        )
    table = str(tmp_path / "all.tsv")
    collect(scores=scores, predictions=paths, table=table)
    rows = store.read_table(table)
    assert len(rows) == 3 * len(store.read_table(scores[0]))
    models = list(dict.fromkeys((row["seed"], row["features"], row["weights"], row["share_groups"]) for row in rows))
    assert models == [
        ("9", "blank", "untrained", ""),
        ("9", "net", "own.h5", "a reason"),
        ("10", "net", "imagenet", ""),
    ]
    own = store.read_table(scores[1])
    assert [{name: row[name] for name in own[0]} for row in rows if row["weights"] == "own.h5"] == own
