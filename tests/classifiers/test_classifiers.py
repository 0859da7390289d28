"""Classifiers: the same answers as scikit-learn's own, nothing learnt from the groups held out, chance on noise."""

from __future__ import annotations

import itertools
import json
import tracemalloc
import zipfile
from dataclasses import replace

import cohort_factory
import numpy as np
import pytest
import skops.io
from cohort_factory import CLASSES
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC, LinearSVC
from threadpoolctl import threadpool_limits

from histotransfer import predictions, provenance, store
from histotransfer.classifiers import calibration, cross_validation, fitting, kinds, linear_svm, perceptron
from histotransfer.definitions import RowClassifier, Split
from histotransfer.feature_kinds import FeatureSet
from histotransfer.plain_data import made
from histotransfer.tables import tile_table

SETTINGS = {
    "libsvm": {"kind": "libsvm", "C": [0.001, 0.1]},
    "liblinear": {"kind": "liblinear", "C": [0.001, 0.1]},
    "extratrees": {"kind": "extratrees", "trees": 20, "max_features": ["sqrt", 0.5, "all"]},
    "perceptron": {"kind": "perceptron", "learning_rate": [0.01, 0.1], "iterations": [10, 50]},
}


def defined(kind):
    return made(RowClassifier, SETTINGS[kind])


def train(cohort, name="out", *, classifier="libsvm", split=None, threads=1, classes=CLASSES, inputs=None, **changes):
    """Train on a cohort; return the paths written."""
    inputs = inputs or cohort.write()
    split_file, definition = cohort_factory.split_by_patient(cohort.folder, inputs["slides_table"], **(split or {}))
    files = cohort_factory.model_files(cohort.folder / name)
    fitting.train(
        features=inputs["features"],
        tables=cohort_factory.tables_of(inputs, split_file),
        files=files,
        classifier=defined(classifier) if isinstance(classifier, str) else made(RowClassifier, classifier),
        feature_set=cohort_factory.FEATURES,
        classes=classes,
        split=definition,
        factors=cohort_factory.FACTORS,
        master_seed=changes.pop("master_seed", 2018),
        threads=threads,
    )
    return vars(files)


def digests(paths):
    return {name: provenance.content_digest(path) for name, path in paths.items()}


def blobs(n, n_features, n_classes, seed=0, distance=1.0):
    random = np.random.default_rng(seed)
    y = np.concatenate([np.arange(n_classes), random.integers(0, n_classes, n - n_classes)])
    centres = distance * random.standard_normal((n_classes, n_features))
    return (centres[y] + random.standard_normal((n, n_features))).astype(np.float32), y


@pytest.mark.parametrize("gram_rows", [10_000, 10])
@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_libsvm_gives_what_scikit_learns_svc_gives(n_classes, gram_rows):
    x, y = blobs(160, 30, n_classes)
    rows = np.arange(0, 160, 2)
    fit = linear_svm.libsvm(x, y, threads=2, gram_rows=gram_rows)
    models = list(fit(rows, [{"C": 0.01}, {"C": 1.0}], 0))
    for c, model in zip([0.01, 1.0], models, strict=True):
        svc = SVC(kernel="linear", C=c, break_ties=n_classes > 2).fit(x[rows].astype(np.float64), y[rows])
        expected = svc.decision_function(x)
        if n_classes == 2:
            expected = np.stack([-expected, expected], axis=1)
        score = model.decision_function(x)
        np.testing.assert_allclose(score, expected, atol=1e-6)
        assert model.predict(x).tolist() == svc.predict(x).tolist()


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("n_features", [10, 300])
def test_liblinear_gives_what_scikit_learns_linear_svc_gives(n_classes, n_features):
    x, y = blobs(90, n_features, n_classes)
    [model] = linear_svm.liblinear(x, y)(np.arange(90), [{"C": 0.1}], 7)
    svc = LinearSVC(C=0.1, dual=n_features == 300, random_state=7, max_iter=10_000).fit(x.astype(np.float64), y)
    assert model.predict(x).tolist() == svc.predict(x).tolist()
    expected = svc.decision_function(x)
    np.testing.assert_allclose(model.decision_function(x)[:, -1], expected if n_classes == 2 else expected[:, -1])


@pytest.mark.parametrize("n", [300, 1300])
def test_gram_matrix_is_the_same_on_any_number_of_threads(n):
    x = np.random.default_rng(0).standard_normal((n, 300)).astype(np.float32)
    found = set()
    # at this size OpenBLAS, left alone, gives other last bits on two threads than on one
    for of_blas, threads in ((1, 1), (2, 1), (2, 3)):
        with threadpool_limits(limits=of_blas, user_api="blas"):
            gram = linear_svm.gram_matrix(x, threads=threads)
        found.add(gram.tobytes())
    assert len(found) == 1
    assert (gram == gram.T).all()
    np.testing.assert_allclose(gram, x.astype(np.float64) @ x.astype(np.float64).T, rtol=1e-9, atol=1e-9)


def test_gram_matrix_of_more_columns_than_a_block_has():
    x = np.random.default_rng(0).integers(-9, 9, (700, 2500)).astype(np.float32)
    # sums of whole numbers are exact in any order
    assert (linear_svm.gram_matrix(x, threads=2) == x.astype(np.float64) @ x.astype(np.float64).T).all()


def test_gram_matrix_needs_no_second_copy_of_the_features():
    x = np.ones((600, 20_000), np.float32)
    tracemalloc.start()
    linear_svm.gram_matrix(x, threads=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # the matrix itself of 600 x 600, two blocks of 512 x 1024 and their product, all in float64
    assert peak < 1.1 * 8 * (600 * 600 + 2 * 512 * 1024 + 512 * 512)


@pytest.mark.parametrize("kind", ["libsvm", "extratrees"])
def test_a_refit_on_all_rows_copies_no_features(kind):
    x, y = blobs(1500, 4000, 3)
    grid = {"libsvm": {"C": 0.1}, "extratrees": {"max_features": "sqrt"}}[kind]
    settings = {"libsvm": {"C": [0.1]}, "extratrees": {"max_features": ["sqrt"], "trees": 2}}[kind]
    fit = kinds.prepare(made(RowClassifier, {"kind": kind, **settings}), x, y)
    tracemalloc.start()
    [model] = fit(np.arange(1500), [grid], 0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # a copy of the Gram matrix were 0.75
    assert peak < 0.3 * x.nbytes
    assert len(model.predict(x)) == 1500


def test_perceptron_comes_to_the_solution_of_logistic_regression():
    x, y = blobs(400, 4, 3, distance=0.7)
    # features of very different size and place, one of them constant
    x = np.hstack([x * np.float32([1, 1000, 0.001, 1]) + np.float32([0, 5, 9, -300]), np.full((400, 1), 7, np.float32)])
    fit = perceptron.perceptron(x, y)
    [model] = fit(np.arange(400), [{"learning_rate": 0.003, "iterations": 600}], 0)
    standardised = (x[:, :4] - x[:, :4].mean(axis=0)) / x[:, :4].std(axis=0)
    expected = LogisticRegression(C=1e6, max_iter=1000).fit(standardised, y).predict_proba(standardised)
    np.testing.assert_allclose(model.predict_proba(x), expected, atol=0.03)
    changed = x.copy()
    changed[:, 4] += 1
    assert np.isfinite(model.predict_proba(changed)).all()


def test_perceptrons_iterations_are_points_of_one_path():
    x, y = blobs(120, 6, 3)
    fit = perceptron.perceptron(x, y)
    rows = np.arange(100)
    together = list(fit(rows, [{"learning_rate": 0.01, "iterations": n} for n in (3, 9)], 4))
    [alone] = fit(rows, [{"learning_rate": 0.01, "iterations": 9}], 4)
    assert (together[1].coef == alone.coef).all()
    assert (together[0].coef != alone.coef).any()


def test_sigmoid_is_the_one_that_maximises_platts_likelihood():
    random = np.random.default_rng(3)
    score = 3 * random.standard_normal(400)
    positive = random.random(400) < 1 / (1 + np.exp(-(0.8 * score - 1)))
    slope, offset = calibration.fit_sigmoid(score, positive)
    n_positive = positive.sum()
    target = np.where(positive, (n_positive + 1) / (n_positive + 2), 1 / (400 - n_positive + 2))

    def loss(slope, offset):
        p = 1 / (1 + np.exp(slope * score + offset))
        return -(target * np.log(p) + (1 - target) * np.log(1 - p)).sum()

    best = loss(slope, offset)
    steps = itertools.product((-1e-3, 0, 1e-3), repeat=2)
    assert all(loss(slope + a, offset + b) >= best for a, b in steps)
    assert slope == pytest.approx(-0.8, abs=0.2)
    # the same sigmoid whatever the unit of the scores
    assert calibration.fit_sigmoid(1000 * score, positive) == pytest.approx((slope / 1000, offset), rel=1e-5)


def test_sigmoids_of_scores_that_say_nothing():
    positive = np.array([True, True, False, False, False, False])
    worse_than_chance = np.array([-2.0, -1.0, 1.0, 2.0, 3.0, 4.0])
    slope, offset = calibration.fit_sigmoid(worse_than_chance, positive)
    # two positives with target 3/4, four negatives with target 1/6
    assert slope == 0
    assert 1 / (1 + np.exp(offset)) == pytest.approx((2 * 3 / 4 + 4 / 6) / 6)
    slope, offset = calibration.fit_sigmoid(np.zeros(6), positive)
    assert 1 / (1 + np.exp(offset)) == pytest.approx((2 * 3 / 4 + 4 / 6) / 6)
    separable = calibration.fit_sigmoid(-worse_than_chance, positive)
    assert np.isfinite(separable).all()
    assert separable[0] < 0


def test_probabilities_sum_to_one_and_do_not_overflow():
    sigmoids = np.array([[-1.0, 0.0], [-2.0, 1.0]])
    found = calibration.probabilities(np.array([[0.0, 0.5], [1e4, -1e4], [-1e4, -1e4]]), sigmoids)
    assert found.sum(axis=1) == pytest.approx([1, 1, 1])
    assert found[0].tolist() == [1 / 2, 1 / 2]
    assert found[1, 0] == pytest.approx(1)
    assert found[2].tolist() == [1 / 2, 1 / 2]


@pytest.mark.parametrize("classifier", list(SETTINGS))
def test_separable_classes_are_learnt(tmp_path, classifier):
    cohort = cohort_factory.separable(tmp_path, distance=5)
    paths = train(cohort, classifier=classifier)
    held_out, out_of_fold, attributes = predictions.read_predictions(paths["predictions"])
    split = {row["group"]: row for row in store.read_table(str(tmp_path / "split.tsv"))}
    assert {split[group]["set"] for group in held_out.group} == {"test"}
    assert len(held_out.tile) == 6 * 8
    assert len(out_of_fold.tile) == 12 * 8
    assert (held_out.predicted == held_out.true).mean() > 0.95
    assert (out_of_fold.predicted == out_of_fold.true).mean() > 0.95
    assert (held_out.probability.argmax(axis=1) == held_out.true).mean() > 0.95
    assert held_out.probability.sum(axis=1) == pytest.approx(np.ones(48))
    expected = [int(split[group]["fold"]) for group in out_of_fold.group]
    assert out_of_fold.fold.tolist() == expected
    assert attributes["classes"] == CLASSES
    assert (attributes["n_train_tiles"], attributes["n_train_groups"]) == (96, 12)
    assert attributes["chosen"] in cross_validation.parameter_grid(defined(classifier), kinds.KINDS[classifier].tuned)
    assert (attributes["unit"], attributes["group_unit"], attributes["share_groups"]) == ("patient", "patient", "")
    assert (attributes["weights"], attributes["untrained"]) == ("imagenet", False)
    margins = classifier in ("libsvm", "liblinear")
    assert attributes["calibration"].startswith("per class a sigmoid" if margins else "none")


@pytest.mark.parametrize("classifier", list(SETTINGS))
def test_nothing_is_learnt_from_the_groups_held_out(tmp_path, classifier):
    cohort = cohort_factory.separable(tmp_path, distance=1)
    honest = train(cohort, "honest", classifier=classifier)
    held_out, _, _ = predictions.read_predictions(honest["predictions"])
    groups, random = set(held_out.group), np.random.default_rng(9)
    for tile in cohort.tiles:
        if tile.patient in groups:
            tile.features = (1e6 * random.standard_normal(12)).tolist()
            tile.label = "lymphoid"
    split = (tmp_path / "split.tsv").read_bytes()
    inputs = cohort.write()
    # the split stays: its strata would follow the spoilt labels
    spoilt_labels, inputs["slides_table"] = inputs["slides_table"], str(tmp_path / "honest.tsv")
    rows = store.read_table(spoilt_labels)
    for row in rows:
        row["labels"] = json.dumps({CLASSES[int(row["image"][5:]) % 3]: 8})
    store.write_table(inputs["slides_table"], rows[0].keys(), rows)
    spoilt = train(cohort, "spoilt", classifier=classifier, inputs=inputs)
    assert (tmp_path / "split.tsv").read_bytes() == split
    one, other = digests(honest), digests(spoilt)
    assert one["model"] == other["model"]
    assert one["tuning"] == other["tuning"]
    assert one["predictions"] != other["predictions"]
    _, before, said = predictions.read_predictions(honest["predictions"])
    _, after, said_after = predictions.read_predictions(spoilt["predictions"])
    for name in ("score", "probability", "true", "fold"):
        assert getattr(before, name).tobytes() == getattr(after, name).tobytes()
    assert said == said_after


@pytest.mark.parametrize("classifier", list(SETTINGS))
def test_labels_of_pure_noise_are_predicted_at_chance(tmp_path, classifier):
    cohort = cohort_factory.separable(tmp_path, patients=60, tiles=5, n_features=20, distance=0)
    paths = train(cohort, classifier=classifier, split={"test": 0.5})
    held_out, out_of_fold, _ = predictions.read_predictions(paths["predictions"])
    # thirty held-out patients of five tiles each; four standard deviations of 150 draws at 1/3
    for part in (held_out, out_of_fold):
        assert (part.predicted == part.true).mean() == pytest.approx(1 / 3, abs=4 * np.sqrt(2 / 9 / 150))


@pytest.mark.parametrize("classifier", list(SETTINGS))
def test_threads_shards_and_order_change_nothing(tmp_path, classifier):
    cohort = cohort_factory.separable(tmp_path, distance=1)
    one = digests(train(cohort, "one", classifier=classifier))
    two = digests(train(cohort, "two", classifier=classifier, threads=2, inputs=cohort.write(shards=3, reverse=True)))
    assert one == two
    if classifier in ("extratrees", "perceptron"):
        other_seed = digests(train(cohort, "other", classifier=classifier, master_seed=5))
        assert other_seed["predictions"] != one["predictions"]


@pytest.mark.parametrize("classifier", ["libsvm", "extratrees"])
def test_folds_scored_in_stretches_are_scored_the_same(tmp_path, classifier, monkeypatch):
    cohort = cohort_factory.separable(tmp_path, distance=1)
    whole = train(cohort, "whole", classifier=classifier)
    monkeypatch.setattr(fitting, "_SCORED_ROWS", 7)
    monkeypatch.setattr(fitting, "_SCORED_BYTES", 1)
    in_stretches = train(cohort, "in stretches", classifier=classifier)
    _, one, _ = predictions.read_predictions(whole["predictions"])
    _, other, _ = predictions.read_predictions(in_stretches["predictions"])
    assert one.tile == other.tile
    np.testing.assert_allclose(one.score, other.score, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("classifier", list(SETTINGS))
def test_saved_model_predicts_what_was_written(tmp_path, classifier):
    cohort = cohort_factory.separable(tmp_path, distance=1)
    paths = train(cohort, classifier=classifier)
    with zipfile.ZipFile(paths["model"]) as archive:
        assert not [name for name in archive.namelist() if not name.endswith((".npy", ".json"))]
    model = fitting.load_model(paths["model"])
    held_out, _, _ = predictions.read_predictions(paths["predictions"])
    features = {(tile.image, tile.tile): tile.features for tile in cohort.tiles}
    x = np.array([features[key] for key in zip(held_out.image, held_out.tile, strict=True)], dtype=np.float32)
    assert model.decision_function(x).tobytes() == held_out.score.tobytes()
    assert model.predict_proba(x).tobytes() == held_out.probability.tobytes()
    assert model.predict(x).tolist() == [CLASSES[k] for k in held_out.predicted]


def test_model_files_of_other_types_are_refused(tmp_path):
    path = str(tmp_path / "model.skops")
    skops.io.dump(tile_table.TileTable(*[None] * 11), path)
    with pytest.raises(ValueError, match=r"model\.skops: a model is made of TileClassifier.*TileTable"):
        fitting.load_model(path)
    skops.io.dump(LogisticRegression(), path)
    with pytest.raises(ValueError, match="must hold a TileClassifier; found LogisticRegression"):
        fitting.load_model(path)
    (tmp_path / "model.skops").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(ValueError, match=r"model\.skops: must be a model in the form of skops"):
        fitting.load_model(path)


@pytest.mark.parametrize("nowhere", [10_000, -1000])
def test_trees_that_lead_nowhere_are_refused(tmp_path, nowhere):
    paths = train(cohort_factory.separable(tmp_path), classifier="extratrees")
    model = fitting.load_model(paths["model"])
    left = model.estimator.estimators_[3].tree_.children_left
    left[0] = nowhere
    fitting.save_model(paths["model"], model)
    with pytest.raises(ValueError, match=r"must form a tree; not so in tree 3"):
        fitting.load_model(paths["model"])


def test_tiles_without_a_label_are_predicted_and_nothing_else(tmp_path):
    cohort = cohort_factory.separable(tmp_path, distance=3)
    with_labels = train(cohort, "with")
    for tile in cohort.tiles:
        if tile.tile in ("6_0", "7_0"):
            tile.label = ""
    paths = train(cohort, "without")
    held_out, out_of_fold, attributes = predictions.read_predictions(paths["predictions"])
    assert (len(held_out.tile), len(out_of_fold.tile)) == (48, 96)
    assert ((held_out.true == -1).sum(), (out_of_fold.true == -1).sum()) == (12, 24)
    assert attributes["n_train_tiles"] == 72
    # the same model as without those tiles
    cohort.tiles = [tile for tile in cohort.tiles if tile.label]
    fewer = train(cohort, "fewer")
    assert provenance.content_digest(paths["model"]) == provenance.content_digest(fewer["model"])
    assert provenance.content_digest(paths["tuning"]) == provenance.content_digest(fewer["tuning"])
    assert provenance.content_digest(paths["model"]) != provenance.content_digest(with_labels["model"])


def test_caps_on_training_tiles(tmp_path):
    cohort = cohort_factory.separable(tmp_path, distance=3)
    capped = train(cohort, "capped", split={"train_tiles_per_class": 7})
    held_out, out_of_fold, attributes = predictions.read_predictions(capped["predictions"])
    assert np.bincount(out_of_fold.true).tolist() == [7, 7, 7]
    assert len(held_out.tile) == 48
    other_method = train(cohort, "trees", classifier="extratrees", split={"train_tiles_per_class": 7})
    _, same, _ = predictions.read_predictions(other_method["predictions"])
    assert list(zip(same.image, same.tile, strict=True)) == list(zip(out_of_fold.image, out_of_fold.tile, strict=True))
    fewer = train(cohort, "fewer", split={"train_tiles_per_class": 7, "train_tiles": 20})
    _, subset, attributes = predictions.read_predictions(fewer["predictions"])
    assert attributes["n_train_tiles"] == 20
    assert set(zip(subset.image, subset.tile, strict=True)) < set(zip(same.image, same.tile, strict=True))


def test_images_out_of_the_cohort_are_left_out(tmp_path):
    cohort = cohort_factory.separable(tmp_path, patients=19)
    whole = train(cohort, "whole")
    cohort.status = {"image18": "unreadable"}
    paths = train(cohort, "fewer")
    cohort.tiles = [tile for tile in cohort.tiles if tile.image != "image18"]
    absent = train(cohort, "absent")
    assert digests(paths) == digests(absent)
    assert digests(paths) != digests(whole)


def test_tuning_table_says_every_fold_and_its_mean(tmp_path):
    paths = train(cohort_factory.separable(tmp_path, distance=1))
    rows = store.read_table(paths["tuning"])
    assert len(rows) == 2 * (3 + 1)
    _, out_of_fold, attributes = predictions.read_predictions(paths["predictions"])
    means = {}
    for row in rows:
        assert row["metric"] == "accuracy"
        if row["fold"] == cross_validation.MEAN:
            folds = [
                float(one["score"])
                for one in rows
                if one["parameters"] == row["parameters"] and one["fold"] in ("0", "1", "2")
            ]
            assert float(row["score"]) == pytest.approx(np.mean(folds))
            means[row["parameters"]] = float(row["score"])
    [chosen] = {row["parameters"] for row in rows if row["chosen"] == "yes"}
    assert means[chosen] == max(means.values())
    right = out_of_fold.predicted == out_of_fold.true
    scored = [right[out_of_fold.fold == fold].mean() for fold in range(3)]
    assert np.mean(scored) == pytest.approx(means[chosen])
    assert json.loads(chosen) == attributes["chosen"]


def tune(fold_scores):
    """Return the chosen index of made-up scores: models are numbers, and score as many rows right as they say."""
    n_folds = len(fold_scores[0])
    label = np.tile([0, 1], 10 * n_folds)
    fold = np.repeat(np.arange(n_folds), 20)

    def fit(rows, grid, seed):
        held_out = (set(range(n_folds)) - set(fold[rows].tolist())).pop()
        yield from (fold_scores[k][held_out] for k in range(len(grid)))

    def scores_of(model, held_out, rows):
        score = np.eye(2)[label[rows]]
        if np.isnan(model):
            return score * np.nan
        wrong = np.arange(len(rows)) >= round(model * len(rows))
        return np.where(wrong[:, None], 1 - score, score)

    return cross_validation.cross_validate(
        lambda held_out: fit,
        scores_of,
        label=label,
        fold=fold,
        classes=["a", "b"],
        grid=[{"C": k} for k in range(len(fold_scores))],
        metric="accuracy",
        seed_of=lambda fold: 0,
        workers=1,
    )


def test_highest_mean_is_chosen_and_the_first_of_equals():
    assert tune([[0.5, 0.6], [0.8, 0.7], [0.6, 0.6]]).chosen == 1
    assert tune([[0.5, 0.5], [0.7, 0.8], [0.8, 0.7], [0.75, 0.75]]).chosen == 1
    assert tune([[0.4, 0.4]]).chosen == 0


def test_scores_that_are_no_numbers_are_never_chosen():
    found = tune([[0.5, 0.5], [1.0, np.nan]])
    assert found.chosen == 0
    assert np.isnan(found.fold_scores[1, 1])
    with pytest.raises(ValueError, match="accuracy must be defined in a fold"):
        tune([[np.nan, np.nan]])


def test_one_value_still_gives_predictions_out_of_fold(tmp_path):
    cohort = cohort_factory.separable(tmp_path)
    paths = train(cohort, classifier={"kind": "libsvm", "C": [0.1], "tuning_metric": "roc_auc"})
    _, out_of_fold, attributes = predictions.read_predictions(paths["predictions"])
    assert len(out_of_fold.tile) == 96
    assert attributes["chosen"] == {"C": 0.1}
    assert attributes["tuning_metric"] == "roc_auc"


def test_two_classes_and_untrained_features(tmp_path):
    cohort = cohort_factory.separable(tmp_path, classes=["a", "b"])
    cohort.untrained = True
    for classifier in SETTINGS:
        paths = train(cohort, classifier, classifier=classifier, classes=["a", "b"])
        held_out, _, attributes = predictions.read_predictions(paths["predictions"])
        assert held_out.score.shape[1] == 2
        assert (held_out.predicted == held_out.true).mean() > 0.9
        assert attributes["untrained"] is True
    # declared order is the order of the columns
    turned = train(cohort, "turned", classes=["b", "a"])
    straight = train(cohort, "straight", classes=["a", "b"])
    one, _, _ = predictions.read_predictions(straight["predictions"])
    other, _, _ = predictions.read_predictions(turned["predictions"])
    assert (one.true == 1 - other.true).all()
    np.testing.assert_allclose(one.probability, other.probability[:, ::-1], atol=2e-3)


def test_features_of_which_all_are_constant_are_refused(tmp_path):
    cohort = cohort_factory.separable(tmp_path, patients=12, tiles=3)
    train(cohort)
    held_out = {row["group"] for row in store.read_table(str(tmp_path / "split.tsv")) if row["set"] == "test"}
    for tile in cohort.tiles:
        # what the groups held out have does not count, nor what tiles without a label have
        if tile.patient not in held_out and tile.tile == "0_0":
            tile.label = ""
        elif tile.patient not in held_out:
            tile.features = [2.5] * 12
    message = r"found every feature of layer last of net constant over 18 training tiles"
    for classifier in SETTINGS:
        with pytest.raises(ValueError, match=message):
            train(cohort, classifier, classifier=classifier)
    # one tile that differs in one feature is enough
    next(tile for tile in cohort.tiles if tile.features == [2.5] * 12).features = [2.5] * 11 + [2.0]
    for classifier in SETTINGS:
        train(cohort, classifier, classifier=classifier)


def test_constant_features_beside_others_change_nothing(tmp_path):
    cohort = cohort_factory.separable(tmp_path, patients=12, tiles=3)
    for tile in cohort.tiles:
        tile.features = [*tile.features, 0.0]
    for classifier in ("libsvm", "liblinear", "perceptron"):
        with_constant = train(cohort, f"{classifier} with", classifier=classifier)
        for tile in cohort.tiles:
            tile.features = tile.features[:12]
        without = train(cohort, f"{classifier} without", classifier=classifier)
        for tile in cohort.tiles:
            tile.features = [*tile.features, 0.0]
        one, _, _ = predictions.read_predictions(with_constant["predictions"])
        other, _, _ = predictions.read_predictions(without["predictions"])
        np.testing.assert_allclose(one.score, other.score, atol=1e-5)


def test_a_feature_set_is_sources_windows_or_pixels():
    for feature_set, found in (({"network": "net", "layer": None}, "network, layer"), ({}, "none")):
        with pytest.raises(TypeError, match=f"one of these: sources; windows; image; pixels; found {found}"):
            made(FeatureSet, feature_set)


def test_features_that_are_not_finite_are_named(tmp_path):
    cohort = cohort_factory.separable(tmp_path)
    cohort.tiles[8 + 3].features[2] = float("nan")
    with pytest.raises(ValueError, match=r"image01\.h5 has a value that is not finite at tile 3_0"):
        train(cohort)


def test_class_without_training_tiles_in_a_fold(tmp_path):
    cohort = cohort_factory.separable(tmp_path)
    train(cohort)
    split = {row["group"]: row for row in store.read_table(str(tmp_path / "split.tsv"))}
    # only the fibrous tiles of one fold keep their label
    for tile in cohort.tiles:
        if tile.label == "fibrous" and split[tile.patient]["fold"] in ("0", "1"):
            tile.label = "glandular"
    inputs = cohort.write()
    table = tile_table.read(
        features=inputs["features"],
        tables=cohort_factory.tables_of(inputs, str(tmp_path / "split.tsv")),
        split=Split(unit="patient", folds=3),
        feature_set=cohort_factory.FEATURES,
        classes=CLASSES,
        master_seed=2018,
    )
    inside = table.rows(table.set != "test")
    with pytest.raises(ValueError, match=r"without fold 2, no tile of class 'fibrous' is left"):
        cross_validate(inside)
    with pytest.raises(ValueError, match=r"class 'fibrous' has none"):
        cross_validate(replace(inside, label=np.where(inside.label == 0, 1, inside.label)))
    with pytest.raises(ValueError, match=r"fold 1 has none"):
        cross_validate(replace(inside, label=np.where(inside.fold == 1, -1, inside.label)))
    with pytest.raises(ValueError, match=r"in 2 folds or more; found 1"):
        cross_validate(inside.rows(inside.fold == 1))


def test_a_dataset_of_one_class_is_not_trained_on(tmp_path):
    cohort = cohort_factory.separable(tmp_path, classes=["fibrous"])
    with pytest.raises(ValueError, match=r"every class needs training tiles; class 'glandular' has none"):
        train(cohort)


def test_fewer_patients_than_folds_are_not_trained_on(tmp_path):
    # no class has more than two patients
    cohort = cohort_factory.separable(tmp_path, patients=5)
    with pytest.raises(ValueError, match=r"takes 4 of each class \(3 folds, 1 for test\), and class 'fibrous' has 2"):
        train(cohort)


def cross_validate(table):
    return cross_validation.cross_validate(
        None,
        None,
        label=table.label,
        fold=table.fold,
        classes=CLASSES,
        grid=[{}],
        metric="accuracy",
        seed_of=lambda fold: 0,
        workers=1,
    )


def test_input_that_cannot_be_trained_on(tmp_path):
    cohort = cohort_factory.separable(tmp_path)
    with pytest.raises(ValueError, match=r"two or more; found \['fibrous'\]"):
        train(cohort, classes=["fibrous"])
    with pytest.raises(ValueError, match=r"line 2: a label must be one of fibrous, glandular, or empty; .*'lymphoid'"):
        train(cohort, classes=["fibrous", "glandular"])
    with pytest.raises(
        TypeError, match=r"kind: legal are libsvm, liblinear, extratrees, perceptron, leaf_frequencies; found 'knn'"
    ):
        train(cohort, classifier={"kind": "knn"})
    with pytest.raises(ValueError, match=r"needs C; found \[\]"):
        train(cohort, classifier={"kind": "libsvm", "C": []})
    with pytest.raises(ValueError, match=r"one of accuracy, balanced_accuracy, roc_auc; found 'f1'"):
        train(cohort, classifier={"kind": "libsvm", "C": [1], "tuning_metric": "f1"})
    inputs = cohort.write()
    inputs["labels"] = inputs["labels"][1:]
    with pytest.raises(ValueError, match=r"8 have none, the first is tile '0_0' of image 'image00'"):
        train(cohort, inputs=inputs)


def test_predictions_must_be_complete(tmp_path):
    part = predictions.Predictions(
        ["t"], ["i"], ["s"], ["g"], np.array([0]), np.array([[1.0, 0]]), np.array([[1.0, 0]])
    )
    said = dict.fromkeys(predictions.ATTRIBUTES, "") | {"classes": ["a", "b"], "chosen": {}}
    path = str(tmp_path / "p.h5")
    predictions.write_predictions(path, held_out=part, out_of_fold=None, attributes=said)
    read, nothing, attributes = predictions.read_predictions(path)
    assert (read.tile, read.predicted.tolist(), nothing, attributes["classes"]) == (["t"], [0], None, ["a", "b"])

    assert predictions.read_validation(path) is None
    kept = replace(part, tile=["v"], score=np.array([[1.0, 0.0]]))
    predictions.write_predictions(path, held_out=part, out_of_fold=None, attributes=said, validation=kept)
    found = predictions.read_validation(path)
    assert (found.tile, found.predicted.tolist(), found.fold) == (["v"], [0], None)
    assert predictions.read_predictions(path)[0].tile == ["t"]
    wrong = replace(kept, score=np.array([[np.inf, 0]]))
    with pytest.raises(ValueError, match=r"score must be finite; .* tile 'v'"):
        predictions.write_predictions(path, held_out=part, out_of_fold=None, attributes=said, validation=wrong)

    def refused(message, **changes):
        with pytest.raises(ValueError, match=message):
            predictions.write_predictions(path, held_out=replace(part, **changes), out_of_fold=None, attributes=said)

    refused("score must be finite; .* tile 't' of image 'i'", score=np.array([[np.nan, 0]]))
    refused("probabilities must sum to 1", probability=np.array([[0.5, 0.4]]))
    refused(r"shape \(1, 2\); found \(1, 3\)", score=np.zeros((1, 3)))
    refused("as many entries", group=["g", "h"])
    refused(r"lie in -1\.\.1; found 2\.\.2", true=np.array([2]))
    del said["untrained"]
    refused(r"missing \['untrained'\]")


@pytest.mark.parametrize("classifier", list(SETTINGS))
def test_a_fold_model_depends_on_its_own_rows_alone(classifier):
    x, y = blobs(700, 20, 3)
    rows = np.flatnonzero(np.arange(700) % 5 != 2)
    spoilt = x.copy()
    spoilt[np.arange(700) % 5 == 2] = 1e3
    settings = defined(classifier)
    grid = cross_validation.parameter_grid(settings, kinds.KINDS[classifier].tuned)
    if classifier == "extratrees":
        settings = replace(settings, trees=5)
    scores = []
    for features in (x, spoilt):
        models = kinds.prepare(settings, features, y)(rows, grid, 3)
        scores.append([fitting.TileClassifier(model, CLASSES).decision_function(x).tobytes() for model in models])
    assert scores[0] == scores[1]
    assert len(scores[0]) == len(grid)
