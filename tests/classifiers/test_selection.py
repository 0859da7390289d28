"""Selection of features: inside the training groups alone, and what classifiers make of it."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import cohort_factory
import numpy as np
import pytest
from cohort_factory import CLASSES, Cohort, Tile

from histotransfer import predictions, provenance, store
from histotransfer.classifiers import elimination, fitting, selection
from histotransfer.classifiers.subsets import Subsets, read_subsets, write_subsets
from histotransfer.definitions import Draw, ExtraTrees, LinearSvm, Selection, Split

SETTINGS = {"kind": "rfe", "step": 0.25, "trees": 20}


def select(cohort, name="out", *, split=None, classes=CLASSES, inputs=None, threads=1, master_seed=2018, **changes):
    """Select features of a cohort; return the paths written and what else training on them takes."""
    inputs = inputs or cohort.write()
    split_file, definition = cohort_factory.split_by_patient(cohort.folder, inputs["slides_table"], **(split or {}))
    paths = {"subsets": str(cohort.folder / name / "subsets.h5"), "curve": str(cohort.folder / name / "curve.tsv")}
    given = {
        "features": inputs["features"],
        "tables": cohort_factory.tables_of(inputs, split_file),
        "feature_set": cohort_factory.FEATURES,
        "classes": classes,
        "split": definition,
        "factors": cohort_factory.FACTORS,
        "master_seed": master_seed,
        "threads": threads,
    }
    selection.select(**given, **paths, selection=Selection(**{**SETTINGS, **changes}))
    return paths, given


def train(given, folder, *, subsets=(), classifier=None, **changes):
    """Train on selected features; return held-out and out-of-fold predictions, their attributes and the model."""
    files = cohort_factory.model_files(folder / "model")
    fitting.train(
        **{**given, **changes},
        files=files,
        selection=subsets,
        classifier=classifier or LinearSvm("libsvm", (0.01,)),
    )
    return *predictions.read_predictions(files.predictions), fitting.load_model(files.model)


def noise(folder, patients=40, tiles=5, n_features=1000, seed=3):
    """Return patients of two classes whose features are independent of them."""
    random = np.random.default_rng(seed)
    classes = ["a", "b"]
    made = []
    for number in range(patients):
        for k in range(tiles):
            values = random.standard_normal(n_features).astype(np.float32).tolist()
            label = classes[random.integers(2)]
            made.append(
                Tile(f"{k}_0", f"image{number:02d}", f"slide{number:02d}", f"patient{number:02d}", label, values)
            )
    return Cohort(folder, made)


def accuracy(part):
    return (part.predicted == part.true).mean()


@pytest.mark.parametrize("kind", ["libsvm", "extratrees"])
def test_labels_of_pure_noise_are_predicted_at_chance(tmp_path, kind):
    classifier = {
        "libsvm": LinearSvm("libsvm", (0.01,)),
        "extratrees": ExtraTrees(("sqrt",), trees=50),
    }[kind]
    cohort = noise(tmp_path)
    paths, given = select(cohort, classes=["a", "b"], split={"test": 0.5}, tolerance=0.1)
    held_out, out_of_fold, attributes, _ = train(given, tmp_path, subsets=paths["subsets"], classifier=classifier)
    # about twenty patients of five tiles in each part; three standard deviations of 95 draws at 1/2
    margin = 3 * np.sqrt(1 / 4 / 95)
    assert sorted([len(held_out.tile), len(out_of_fold.tile)]) == [95, 105]
    assert accuracy(held_out) == pytest.approx(1 / 2, abs=margin)
    assert accuracy(out_of_fold) == pytest.approx(1 / 2, abs=margin)
    assert attributes["n_selected"] < 1000

    # forty features chosen with the held-out groups in sight, by an elimination down to one whatever its scores: the
    # same test would find it
    x = np.array([tile.features for tile in cohort.tiles], dtype=np.float32)
    y = np.array(["ab".index(tile.label) for tile in cohort.tiles])
    peeking = elimination.eliminate(
        *(x, y, np.arange(len(y)) % 3),
        classes=["a", "b"],
        forest=elimination.Forest(seed=1, trees=100),
        step=0.1,
        tolerance=0.99,
        metric="accuracy",
    )
    write_subsets(str(tmp_path / "peeking.h5"), forty(paths, peeking.order, dict.fromkeys(range(3), peeking.order)))
    held_out, out_of_fold, _, _ = train(given, tmp_path, subsets=str(tmp_path / "peeking.h5"), classifier=classifier)
    assert accuracy(held_out) > 1 / 2 + margin
    assert accuracy(out_of_fold) > 1 / 2 + margin


def forty(paths, order, fold_orders):
    """Return the first forty features of given orders as the subset to keep."""
    subsets = read_subsets(paths["subsets"])
    return replace(subsets, order=order, fold_orders=fold_orders, k_min=40, sizes=np.array([40]), scores=np.ones(1))


def test_predictions_out_of_fold_are_chance_only_with_each_folds_own_subset(tmp_path):
    cohort = noise(tmp_path)
    paths, given = select(cohort, classes=["a", "b"], split={"test": 0.3}, step=0.1, trees=100, tolerance=0.99)
    subsets = read_subsets(paths["subsets"])
    orders = {"honest": subsets.fold_orders, "shared": dict.fromkeys(range(3), subsets.order)}
    found = {}
    for name, fold_orders in orders.items():
        write_subsets(str(tmp_path / f"{name}.h5"), forty(paths, subsets.order, fold_orders))
        held_out, out_of_fold, _, _ = train(given, tmp_path, subsets=str(tmp_path / f"{name}.h5"))
        assert len(out_of_fold.tile) == 140
        found[name] = accuracy(out_of_fold)
        assert accuracy(held_out) == pytest.approx(1 / 2, abs=3 * np.sqrt(1 / 4 / 60))
    margin = 3 * np.sqrt(1 / 4 / 140)
    assert found["honest"] == pytest.approx(1 / 2, abs=margin)
    assert found["shared"] > 1 / 2 + margin


@pytest.mark.parametrize("step", [3, 0.05, "adaptive"])
def test_planted_features_survive(tmp_path, step):
    # class k differs from the others in feature k
    cohort = cohort_factory.separable(tmp_path, n_features=40, distance=6)
    paths, given = select(cohort, step=step)
    subsets = read_subsets(paths["subsets"])
    assert set(subsets.order[:3].tolist()) == {0, 1, 2}
    assert all(set(order[:3].tolist()) == {0, 1, 2} for order in subsets.fold_orders.values())
    assert 2 <= subsets.k_min <= 4
    held_out, out_of_fold, attributes, model = train(given, tmp_path, subsets=paths["subsets"])
    assert accuracy(held_out) > 0.95
    assert accuracy(out_of_fold) > 0.95
    assert model.columns.tolist() == sorted(subsets.order[: subsets.k_min].tolist())
    assert (attributes["n_features"], attributes["n_selected"]) == (40, subsets.k_min)
    assert json.loads(attributes["columns"]) == [["net", "last", 40]]
    # the model takes rows of all features
    features = {(tile.image, tile.tile): tile.features for tile in cohort.tiles}
    x = np.array([features[key] for key in zip(held_out.image, held_out.tile, strict=True)], dtype=np.float32)
    assert model.decision_function(x).tobytes() == held_out.score.tobytes()


def test_without_a_selection_every_feature_is_taken(tmp_path):
    paths, given = select(cohort_factory.separable(tmp_path))
    assert read_subsets(paths["subsets"]).k_min < 12
    _, _, attributes, model = train(given, tmp_path)
    assert (attributes["n_features"], attributes["n_selected"], model.columns) == (12, 12, None)


def test_nothing_is_selected_by_the_groups_held_out(tmp_path):
    cohort = cohort_factory.separable(tmp_path, distance=1)
    inputs = cohort.write()
    honest, given = select(cohort, "honest", inputs=inputs)
    rows = store.read_table(given["tables"].split_file)
    held_out = {row["group"] for row in rows if row["set"] == "test"}
    assert len(held_out) == 6
    random = np.random.default_rng(9)
    split = (tmp_path / "split.tsv").read_bytes()
    for tile in cohort.tiles:
        if tile.patient in held_out:
            tile.features = (1e6 * random.standard_normal(12)).tolist()
            tile.label = "lymphoid"
    # the split stays: its strata would follow the spoilt labels
    table = store.read_table(inputs["slides_table"])
    spoilt_inputs = {**cohort.write(), "slides_table": str(tmp_path / "honest.tsv")}
    store.write_table(spoilt_inputs["slides_table"], table[0].keys(), table)
    spoilt, _ = select(cohort, "spoilt", inputs=spoilt_inputs)
    assert (tmp_path / "split.tsv").read_bytes() == split
    for name in honest:
        assert provenance.content_digest(spoilt[name]) == provenance.content_digest(honest[name])


def test_a_folds_subsets_see_nothing_of_it(tmp_path):
    cohort = cohort_factory.separable(tmp_path, distance=1)
    honest, given = select(cohort, "honest")
    fold = {row["group"]: row["fold"] for row in store.read_table(given["tables"].split_file)}
    random = np.random.default_rng(9)
    for tile in cohort.tiles:
        if fold[tile.patient] == "1":
            tile.features = random.standard_normal(12).tolist()
    spoilt, _ = select(cohort, "spoilt")
    one, other = read_subsets(honest["subsets"]), read_subsets(spoilt["subsets"])
    assert one.fold_orders[1].tolist() == other.fold_orders[1].tolist()
    assert one.fold_orders[0].tolist() != other.fold_orders[0].tolist()


@pytest.mark.parametrize("step", [0.25, "adaptive"])
def test_threads_shards_and_order_change_nothing(tmp_path, step):
    cohort = cohort_factory.separable(tmp_path, distance=1, n_features=30)
    one, _ = select(cohort, "one", step=step)
    two, _ = select(cohort, "two", step=step, threads=2, inputs=cohort.write(shards=3, reverse=True))
    other, _ = select(cohort, "other", step=step, master_seed=5)
    for name in one:
        assert provenance.content_digest(two[name]) == provenance.content_digest(one[name])
        assert provenance.content_digest(other[name]) != provenance.content_digest(one[name])


def test_curve_has_each_folds_score_and_their_mean(tmp_path):
    paths, _ = select(cohort_factory.separable(tmp_path, distance=1), tolerance=0.05)
    subsets = read_subsets(paths["subsets"])
    rows = store.read_table(paths["curve"])
    assert subsets.sizes.tolist() == [1, 3, 6, 9, 12]
    assert [(row["size"], row["fold"]) for row in rows] == [
        (str(size), fold) for size in subsets.sizes for fold in ("0", "1", "2", "mean")
    ]
    means = {int(row["size"]): float(row["score"]) for row in rows if row["fold"] == "mean"}
    assert list(means.values()) == subsets.scores.tolist()
    for size, mean in means.items():
        own = [float(row["score"]) for row in rows if row["size"] == str(size) and row["fold"] != "mean"]
        assert np.mean(own) == pytest.approx(mean)
    assert {int(row["size"]) for row in rows if row["kept"] == "yes"} == {subsets.k_min}
    assert subsets.k_min == min(size for size, score in means.items() if score >= max(means.values()) - 0.05)
    assert {row["pass"] for row in rows} == {"coarse"}
    said = subsets.attributes
    assert (said["dataset"], said["task"], said["split"], said["seed"]) == ("d", "t", "by-patient", 1)
    assert (said["step"], said["tolerance"], said["metric"]) == ("0.25", 0.05, "accuracy")
    assert (said["columns"], said["n_features"], said["network"]) == ([["net", "last", 0, 12]], 12, "net")
    assert said["notice"] == ""


def test_adaptive_curve_says_what_was_added(tmp_path):
    paths, _ = select(cohort_factory.separable(tmp_path, distance=1, n_features=60), step="adaptive")
    rows = store.read_table(paths["curve"])
    sizes = {word: {int(row["size"]) for row in rows if row["pass"] == word} for word in ("coarse", "fine")}
    assert sizes["coarse"] == {60, 30, 15, 7, 3, 1}
    assert sizes["fine"]
    assert not sizes["fine"] & sizes["coarse"]
    assert all(a < b for a, b in pairwise(read_subsets(paths["subsets"]).sizes.tolist()))


def test_where_every_score_is_equal_the_smallest_subset_is_kept_with_a_notice(tmp_path):
    cohort = cohort_factory.separable(tmp_path)
    # each feature alone tells all classes apart
    for tile in cohort.tiles:
        tile.features = [float(CLASSES.index(tile.label))] * 12
    paths, given = select(cohort)
    subsets = read_subsets(paths["subsets"])
    assert subsets.scores.tolist() == [1.0] * 5
    assert subsets.k_min == 1
    assert subsets.attributes["notice"].startswith("every subset of features has the same score, 1: the smallest")
    held_out, _, _, _ = train(given, tmp_path, subsets=paths["subsets"])
    assert accuracy(held_out) == 1


def test_caps_on_training_tiles_hold_for_the_selection_too(tmp_path):
    cohort = cohort_factory.separable(tmp_path, distance=1)
    whole, _ = select(cohort, "whole")
    capped, given = select(cohort, "capped", split={"train_tiles_per_class": 9})
    _, drawn, _, _ = train(given, tmp_path, subsets=capped["subsets"])
    chosen = set(zip(drawn.image, drawn.tile, strict=True))
    assert len(chosen) == 27
    fold = {row["group"]: row["set"] for row in store.read_table(given["tables"].split_file)}
    cohort.tiles = [tile for tile in cohort.tiles if fold[tile.patient] == "test" or (tile.image, tile.tile) in chosen]
    inputs = cohort.write()
    tables = replace(given["tables"], labels=tuple(inputs["labels"]))
    fewer = str(tmp_path / "fewer.h5")
    selection.select(
        **{**given, "features": inputs["features"], "tables": tables, "split": Split(unit="patient", folds=3)},
        selection=Selection(**SETTINGS),
        subsets=fewer,
        curve=str(tmp_path / "fewer.tsv"),
    )
    assert read_subsets(fewer).importance.tolist() == read_subsets(capped["subsets"]).importance.tolist()
    assert read_subsets(fewer).importance.tolist() != read_subsets(whole["subsets"]).importance.tolist()


def test_tiles_without_a_label_are_predicted_with_their_folds_subset(tmp_path):
    cohort = cohort_factory.separable(tmp_path, distance=4)
    for tile in cohort.tiles:
        if tile.tile in ("6_0", "7_0"):
            tile.label = ""
    paths, given = select(cohort)
    _, out_of_fold, _, _ = train(given, tmp_path, subsets=paths["subsets"])
    assert (len(out_of_fold.tile), (out_of_fold.true == -1).sum()) == (96, 24)
    cohort.tiles = [tile for tile in cohort.tiles if tile.label]
    fewer, _ = select(cohort, "fewer")
    assert provenance.content_digest(fewer["subsets"]) == provenance.content_digest(paths["subsets"])


def test_subsets_of_something_else_are_refused(tmp_path):
    paths, given = select(cohort_factory.separable(tmp_path))
    for change, message in (
        ({"task": "u"}, r"subsets\.h5: .* selected on the same task, 'u'; found 't'"),
        ({"draw": Draw(2)}, r"the same seed, 2; found 1"),
        ({"split": "other"}, r"the same split, 'other'; found 'by-patient'"),
    ):
        with pytest.raises(ValueError, match=message):
            train(given, tmp_path, subsets=paths["subsets"], factors=replace(cohort_factory.FACTORS, **change))
    subsets = read_subsets(paths["subsets"])
    write_subsets(paths["subsets"], replace(subsets, fold_orders={0: subsets.order, 1: subsets.order}))
    with pytest.raises(ValueError, match=r"these subsets know \[0, 1\], asked for was fold 2"):
        train(given, tmp_path, subsets=paths["subsets"])
    cohort = cohort_factory.separable(tmp_path, n_features=13)
    cohort.write()
    with pytest.raises(ValueError, match=r"the same columns, .*13\]\]; found .*12\]\]"):
        train(given, tmp_path, subsets=paths["subsets"])


def test_subsets_must_be_whole(tmp_path):
    path = str(tmp_path / "subsets.h5")
    said = {"columns": [["net", "last", 0, 3]]}
    orders = np.array([2, 0, 1])
    whole = Subsets(
        orders, {0: orders, 1: orders[::-1]}, np.array([0.2, 0.3, 0.5]), np.array([1, 3]), np.ones(2), 1, said
    )
    write_subsets(path, whole)
    read = read_subsets(path)
    assert (read.order.tolist(), read.fold_orders[1].tolist(), read.k_min) == ([2, 0, 1], [1, 0, 2], 1)
    assert (read.chosen().tolist(), read.chosen(1).tolist()) == ([2], [1])
    assert replace(read, k_min=2).chosen().tolist() == [0, 2]
    write_subsets(path, replace(whole, order=np.array([2, 0, 0])))
    with pytest.raises(ValueError, match="the order of all rows must hold each of 3 columns once"):
        read_subsets(path)
    write_subsets(path, replace(whole, k_min=2))
    with pytest.raises(ValueError, match="k_min must be the size of a subset; found 2"):
        read_subsets(path)


def test_input_that_cannot_be_selected_on(tmp_path):
    cohort = cohort_factory.separable(tmp_path)
    with pytest.raises(ValueError, match=r"kind must be 'rfe'; found 'lasso'"):
        select(cohort, kind="lasso")
    with pytest.raises(ValueError, match=r"tolerance of a selection must be .*; found -1"):
        select(cohort, tolerance=-1)
    with pytest.raises(ValueError, match=r"or 'adaptive'; found 'quick'"):
        select(cohort, step="quick")
    with pytest.raises(ValueError, match=r"one of accuracy, .*; found 'f1'"):
        select(cohort, metric="f1")
    with pytest.raises(ValueError, match=r"two or more; found \['fibrous'\]"):
        select(cohort, classes=["fibrous"])
    for tile in cohort.tiles:
        tile.features = [2.5] * 12
    with pytest.raises(ValueError, match=r"found every feature of layer last of net constant over 96 training tiles"):
        select(cohort)
