"""ET-FL: leaf frequencies as counted by hand, classes separated out of fold, chance on noise, stored and read."""

from __future__ import annotations

from dataclasses import replace

import cohort_factory
import h5py
import numpy as np
import pytest
from cohort_factory import CLASSES
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.svm import LinearSVC

from histotransfer import predictions, provenance, store
from histotransfer.classifiers import fitting, leaf_frequencies
from histotransfer.definitions import LeafFrequencies
from histotransfer.feature_kinds import Windows, WindowSet
from histotransfer.tables import windows

#: Windows of one pixel: hue, saturation, value.
DARK, BRIGHT = [0, 0, 10], [0, 0, 200]


def small_forest(trees=2):
    """Grow trees on dark and bright pixels: each has one split and two leaves, on the only value that differs."""
    x = np.array([DARK, BRIGHT] * 5, np.float32)
    return ExtraTreesClassifier(n_estimators=trees, max_features=None, random_state=0).fit(x, [0, 1] * 5)


def tiles(*counts_of_bright, windows=4):
    """Return tiles of so many bright windows each, the others dark."""
    rows = [[BRIGHT] * bright + [DARK] * (windows - bright) for bright in counts_of_bright]
    return np.array(rows, np.uint8).reshape(len(rows), -1)


def textures(n, *, windows=6, window_px=4, classes=2, seed=0):
    """Return windows of noise and labels; the coarser the noise, the higher the class."""
    random = np.random.default_rng(seed)
    y = np.arange(n) % classes
    x = np.empty((n, windows, window_px, window_px, 3), np.uint8)
    for tile, label in zip(x, y, strict=True):
        grain = 2**label
        small = random.integers(0, 256, (windows, window_px // grain, window_px // grain, 3), np.uint8)
        tile[:] = small.repeat(grain, axis=1).repeat(grain, axis=2)
    return x.reshape(n, -1), y


def prepared(x, y, *, window_px=4, threads=1, **changes):
    settings = {"trees": 8, "max_features": "sqrt", "min_samples_leaf": 5, **changes}
    return leaf_frequencies.leaf_frequencies(x, y, threads=threads, window_px=window_px, **settings)


def test_shares_are_those_counted_by_hand():
    forest = small_forest()
    # the left leaf of both trees has the lower values: columns are dark and bright of the one, dark and bright of the
    # other
    shares = leaf_frequencies.leaf_shares(forest, tiles(1, 4, 0))
    assert shares.dtype == np.float32
    assert shares.toarray().tolist() == [[0.75, 0.25, 0.75, 0.25], [0, 1, 0, 1], [1, 0, 1, 0]]
    # a leaf that no window reaches takes no room
    assert shares.nnz == 8
    assert leaf_frequencies.leaf_shares(forest, tiles(1)[:0]).shape == (0, 4)


def test_margins_are_the_shares_times_the_weights():
    model = leaf_frequencies.LeafFrequencies(
        small_forest(), np.array([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.5, 2.0], [0.0, 8.0, 0.0, 0.0]]), np.arange(3.0)
    )
    # one bright window of four: 0.75 - 0.25, 1 + 0.375 + 0.5, 2 + 8 * 0.25
    assert model.decision_function(tiles(1, 4)).tolist() == [[0.5, 1.875, 4.0], [-1.0, 3.0, 10.0]]
    assert model.predict(tiles(1, 4)).tolist() == [2, 2]
    two = leaf_frequencies.LeafFrequencies(small_forest(), np.array([[4.0, 0, 0, 0]]), np.array([-1.0]))
    assert two.decision_function(tiles(1, 4)).tolist() == [[-2.0, 2.0], [1.0, -1.0]]


def test_columns_are_the_leaves_in_the_order_of_their_nodes():
    x, y = textures(30)
    [model] = prepared(x, y)(np.arange(30), [{"C": 1.0}], 3)
    forest = model.forest
    expected = []
    leaves = forest.apply(x.reshape(30 * 6, -1).astype(np.float32))
    for tree, grown in enumerate(forest.estimators_):
        for node in np.flatnonzero(grown.tree_.children_left == -1):
            expected.append((leaves[:, tree] == node).reshape(30, 6).mean(axis=1))
    found = leaf_frequencies.leaf_shares(forest, x).toarray()
    np.testing.assert_allclose(found, np.transpose(expected), rtol=1e-7)
    np.testing.assert_allclose(found.sum(axis=1), 8, rtol=1e-6)
    assert model.coef.shape == (1, found.shape[1])


def test_a_model_is_linear_svm_on_the_shares_of_its_own_rows():
    x, y = textures(60, classes=3)
    rows = np.arange(0, 60, 2)
    models = list(prepared(x, y)(rows, [{"C": 0.1}, {"C": 10.0}], 7))
    # one forest for all entries of the grid, which has seen those rows' windows alone
    assert models[0].forest is models[1].forest
    expected = ExtraTreesClassifier(n_estimators=8, max_features="sqrt", min_samples_leaf=5, random_state=7)
    expected.fit(x[rows].reshape(30 * 6, -1).astype(np.float32), y[rows].repeat(6))
    shares = leaf_frequencies.leaf_shares(expected, x)
    for c, model in zip([0.1, 10.0], models, strict=True):
        svc = LinearSVC(C=c, random_state=7, max_iter=10_000).fit(shares[rows], y[rows])
        np.testing.assert_allclose(model.decision_function(x), svc.decision_function(shares), atol=1e-9)
    changed = x.copy()
    changed[1::2] = 0
    [again] = prepared(changed, y)(rows, [{"C": 0.1}], 7)
    assert (again.coef == models[0].coef).all()


def test_leaves_hold_as_many_windows_as_asked():
    x, y = textures(40)
    [model] = prepared(x, y, min_samples_leaf=30)(np.arange(40), [{"C": 1.0}], 0)
    for grown in model.forest.estimators_:
        assert grown.tree_.n_node_samples[grown.tree_.children_left == -1].min() >= 30
    assert len(model.forest.estimators_) == 8


def predicted_out_of_fold(x, y):
    """Return class indices by models that saw two of three folds."""
    fold = np.arange(len(y)) // 6 % 3
    fit = prepared(x, y)
    found = np.empty(len(y), int)
    for held_out in range(3):
        [model] = fit(np.flatnonzero(fold != held_out), [{"C": 1.0}], 10 + held_out)
        found[fold == held_out] = model.predict(x[fold == held_out])
    return found


@pytest.mark.parametrize("classes", [2, 3])
def test_textures_that_differ_are_told_apart_out_of_fold_and_permuted_labels_are_not(classes):
    x, y = textures(180, classes=classes)
    assert (predicted_out_of_fold(x, y) == y).mean() > 0.95
    permuted = np.random.default_rng(1).permutation(y)
    # 180 tiles: three standard deviations are 0.11
    assert abs((predicted_out_of_fold(x, permuted) == permuted).mean() - 1 / classes) < 0.11


def test_threads_and_blocks_do_not_matter(monkeypatch):
    x, y = textures(40, classes=3)
    [model] = prepared(x, y, threads=1)(np.arange(40), [{"C": 1.0}], 0)
    margins = model.decision_function(x)
    monkeypatch.setattr(leaf_frequencies, "_BLOCK_WINDOWS", 20)
    [other] = prepared(x, y, threads=3)(np.arange(40), [{"C": 1.0}], 0)
    assert other.forest.n_jobs == 1
    assert (other.coef == model.coef).all()
    assert (other.decision_function(x) == margins).all()
    [other] = prepared(x, y)(np.arange(40), [{"C": 1.0}], 1)
    assert other.coef.shape != model.coef.shape or (other.coef != model.coef).any()


def test_all_values_may_be_looked_at():
    x, y = textures(30)
    [model] = prepared(x, y, max_features="all")(np.arange(30), [{"C": 1.0}], 0)
    assert model.forest.estimators_[0].tree_.n_features == 48
    assert model.forest.estimators_[0].max_features_ == 48


@pytest.mark.parametrize(("n_features", "window_px"), [(100, 4), (0, 4), (48, 5)])
def test_values_that_are_no_windows_are_refused(n_features, window_px):
    x = np.zeros((4, n_features), np.uint8)
    length = window_px**2 * 3
    with pytest.raises(
        ValueError, match=rf"{window_px} x {window_px} px, {length} values each; found {n_features} values"
    ):
        prepared(x, np.arange(4) % 2, window_px=window_px)


def test_a_model_refuses_values_that_are_no_windows_of_its_own():
    model = leaf_frequencies.LeafFrequencies(small_forest(), np.zeros((1, 4)), np.zeros(1))
    with pytest.raises(ValueError, match="windows of 3 values each; found 13 values a tile"):
        model.decision_function(np.zeros((2, 13), np.uint8))


def window_cohort(folder, *, seed=0):
    """Write pixels of 12 patients of one slide each, whose classes differ in grain alone; return inputs of train."""
    random = np.random.default_rng(seed)
    cohort = cohort_factory.separable(folder, patients=12, tiles=6, classes=CLASSES[:2])
    pixels = []
    for image in cohort.images():
        inside = [tile for tile in cohort.tiles if tile.image == image]
        grain = 1 + 3 * CLASSES.index(inside[0].label)
        small = random.integers(0, 256, (len(inside), 16 // grain, 16 // grain, 3), np.uint8)
        path = folder / "pixels" / "16" / f"{image}.h5"
        said = {"status": "ok", "reason": "", "px": 16, "digest": "d", "tiles_digest": "t"}
        with store.writing_hdf5(path, said) as file:
            file["tiles"] = small.repeat(grain, axis=1).repeat(grain, axis=2)
            store.write_texts(file, "tile", [tile.tile for tile in inside])
            store.write_texts(file, "image", [tile.image for tile in inside])
        pixels.append(str(path))
    return {**cohort.write(), "features": pixels}


WINDOWS = Windows(16, windows=10, window_px=4, smallest=0.75)


def train(folder, inputs, name="out", *, threads=1, master_seed=2018, **windows):
    """Train ET-FL; return the paths written."""
    split_file, definition = cohort_factory.split_by_patient(folder, inputs["slides_table"])
    files = cohort_factory.model_files(folder / name)
    fitting.train(
        features=inputs["features"],
        tables=cohort_factory.tables_of(inputs, split_file),
        files=files,
        classifier=LeafFrequencies((0.1, 1.0), trees=10, min_samples_leaf=5),
        feature_set=WindowSet(replace(WINDOWS, **windows)),
        classes=CLASSES[:2],
        split=definition,
        factors=replace(cohort_factory.FACTORS, features="random-windows", classifier="et-fl"),
        master_seed=master_seed,
        threads=threads,
    )
    return vars(files)


def test_et_fl_from_pixels_to_predictions(tmp_path):
    inputs = window_cohort(tmp_path)
    paths = train(tmp_path, inputs)
    held_out, out_of_fold, attributes = predictions.read_predictions(paths["predictions"])
    assert len(held_out.tile) + len(out_of_fold.tile) == 72
    for found in (held_out, out_of_fold):
        assert (found.predicted == found.true).mean() > 0.9
    assert (attributes["network"], attributes["weights"]) == ("", "none: random windows of the pixels")
    assert not attributes["untrained"]
    assert attributes["chosen"]["C"] in (0.1, 1.0)
    assert "sigmoid" in attributes["calibration"]
    # the model, read again, gives the same for the same windows
    model = fitting.load_model(paths["model"])
    index = windows.open_windows(pixels=inputs["features"], windows=WINDOWS, master_seed=2018)
    row_of = {key: row for row, key in enumerate(zip(index.image, index.tile, strict=True))}
    x = index.read(np.array([row_of[key] for key in zip(held_out.image, held_out.tile, strict=True)]))
    assert model.decision_function(x).tobytes() == held_out.score.tobytes()
    assert model.predict_proba(x).tobytes() == held_out.probability.tobytes()


def test_et_fl_does_not_depend_on_threads_or_the_order_of_files(tmp_path):
    inputs = window_cohort(tmp_path)
    first = train(tmp_path, inputs)
    other = train(tmp_path, {**inputs, "features": inputs["features"][::-1]}, "other", threads=3)
    for key in first:
        assert provenance.content_digest(other[key]) == provenance.content_digest(first[key]) is not None
    # it does on the study's seed, which windows and trees are drawn from
    reseeded = train(tmp_path, inputs, "reseeded", master_seed=1)
    assert provenance.content_digest(reseeded["predictions"]) != provenance.content_digest(first["predictions"])


def test_a_stored_forest_that_leads_nowhere_is_refused(tmp_path):
    paths = train(tmp_path, window_cohort(tmp_path))
    model = fitting.load_model(paths["model"])
    model.estimator.forest.estimators_[3].tree_.children_left[0] = 10_000
    fitting.save_model(paths["model"], model)
    with pytest.raises(ValueError, match=r"must form a tree; not so in tree 3"):
        fitting.load_model(paths["model"])


def test_tiles_of_one_colour_have_nothing_to_learn(tmp_path):
    inputs = window_cohort(tmp_path)
    for path in inputs["features"]:
        with h5py.File(path, "r+") as file:
            file["tiles"][:] = 200
    with pytest.raises(ValueError, match="windows of the pixels"):
        train(tmp_path, inputs)
