"""Classifiers on features: linear SVMs, ExtraTrees, the single-layer perceptron; tuned, refitted, calibrated, written.

Nothing here looks at a test group before the model is finished.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.tree._tree import Tree
from threadpoolctl import threadpool_limits

from histotransfer import seeds, store
from histotransfer.classifiers import calibration, cross_validation, leaf_frequencies, linear_svm, perceptron
from histotransfer.classifiers.kinds import KINDS, prepare
from histotransfer.classifiers.subsets import Subsets, read_subsets
from histotransfer.definitions import Factors, LeafFrequencies, LearningTables, ModelFiles, RowClassifier, Split
from histotransfer.feature_kinds import FeatureSet, Windows, WindowSet
from histotransfer.predictions import NO_LABEL, Predictions, write_predictions
from histotransfer.tables import tile_table

#: Rows, and about how many bytes of them, that are scored at a time in cross-validation.
_SCORED_ROWS, _SCORED_BYTES = 64, 4 << 20


class TileClassifier(ClassifierMixin, BaseEstimator):
    """What ``model.skops`` holds: an estimator on features, its classes and its calibration.

    Parameters
    ----------
    estimator : estimator
        With class indices as classes; has ``decision_function`` or ``predict_proba``.
    class_names : list of str
        In declared order.
    sigmoids : ndarray of float64, shape (n_classes, 2), or None
        Slope and offset per class; None for an estimator with probabilities of its own.
    columns : ndarray of int32, shape (n_selected,), or None
        What the estimator takes of the features, ascending; None: all. All methods take rows of all features.
    """

    def __init__(
        self,
        estimator: Any,
        class_names: list[str],
        sigmoids: np.ndarray | None = None,
        columns: np.ndarray | None = None,
    ) -> None:
        self.estimator = estimator
        self.class_names = class_names
        self.sigmoids = sigmoids
        self.columns = columns

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        """Return scores, float64 (n, n_classes)."""
        return _scores(self.estimator, x if self.columns is None else x[:, self.columns])

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """Return probabilities, float64 (n, n_classes)."""
        return self.probabilities(self.decision_function(x))

    def probabilities(self, score: np.ndarray) -> np.ndarray:
        """Return the probabilities of scores, float64 (n, n_classes)."""
        return score if self.sigmoids is None else calibration.probabilities(score, self.sigmoids)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return class names by the highest score, (n,)."""
        return np.array(self.class_names)[self.decision_function(x).argmax(axis=1)]


#: What a model may be made of, besides what skops knows as safe. Trees are trusted since :func:`load_model` checks
#: the node numbers in them, which scikit-learn follows without looking.
MODEL_TYPES = (
    TileClassifier,
    linear_svm.OneVsOneMargins,
    linear_svm.OneVsRestMargins,
    perceptron.SoftmaxPerceptron,
    leaf_frequencies.LeafFrequencies,
    Tree,
)


def train(
    *,
    features: Sequence[str],
    tables: LearningTables,
    files: ModelFiles,
    classifier: RowClassifier,
    feature_set: FeatureSet,
    classes: Sequence[str],
    split: Split,
    factors: Factors,
    master_seed: int,
    selection: str | Sequence[str] = (),
    threads: int = 1,
) -> None:
    """Tune a classifier inside the training groups, refit it on all of them, predict the groups held out.

    Parameters
    ----------
    features : sequence of path
        See :func:`histotransfer.tables.tile_table.read`.
    tables : LearningTables
    files : ModelFiles
        Written.
    classifier : LinearSvm, ExtraTrees, Perceptron or LeafFrequencies
    feature_set : Layers or WindowSet
    classes : sequence of str
        In declared order.
    split : Split
    factors : Factors
        Written with the predictions; random numbers are drawn for them.
    master_seed : int
    selection : path, optional
        ``subsets.h5`` of the same split and seed. The model learns on its subset of size k_min; the models that predict
        out of fold learn on the subset of that size which was found without their fold.
    threads : int
        Changes the time, not the result.

    Raises
    ------
    ValueError
        If the input is not fit to train on: see :func:`tile_table.read` and :func:`cross_validation.cross_validate`;
        or if the subsets were found on other features, tasks, splits or folds.
    """
    _check(classifier, feature_set, classes)
    # BLAS' own threads change the last bits of its sums; threads work on whole folds, blocks and trees instead
    with threadpool_limits(limits=1, user_api="blas"):
        table, drawn = tile_table.read_drawn(
            features=features,
            tables=tables,
            split=split,
            feature_set=feature_set,
            classes=classes,
            factors=factors,
            master_seed=master_seed,
        )
        _check_sets(table, tables.split_file)
        subsets = _subsets(selection, table, factors)
        inside = table.rows(
            drawn | ((table.set != "test") & (table.label == NO_LABEL)),
            columns=None if subsets is None else _all_chosen(subsets),
        )
        tile_table.check_features_vary(inside)
        fitted, tuned = _fit(
            inside,
            classifier=classifier,
            windows=feature_set.windows if isinstance(feature_set, WindowSet) else None,
            classes=classes,
            subsets=subsets,
            seed_of=lambda part: _seed(master_seed, factors, part),
            threads=threads,
        )
        held_out = table.rows(table.set == "test", columns=fitted.columns)
        attributes = {
            **_attributes_of_factors(factors, split),
            **_attributes_of_features(table, fitted),
            **_attributes_of_training(inside, classifier, fitted, tuned),
        }
        # the columns that the model takes are the ones that were read
        score = _scores(fitted.estimator, held_out.features)
        write_predictions(
            files.predictions,
            held_out=_predictions(held_out, fitted, score),
            out_of_fold=_predictions(inside, fitted, tuned.out_of_fold, fold=inside.fold),
            attributes=attributes,
        )
        cross_validation.write(files.tuning, tuned, classifier.tuning_metric)
        save_model(files.model, fitted)


def save_model(path: str, model: TileClassifier) -> None:
    """Write a model by skops; no pickle is in it."""
    import skops.io

    with store.replacing(path) as part:
        skops.io.dump(model, part)


def load_model(path: str) -> TileClassifier:
    """Read what :func:`save_model` wrote.

    Raises
    ------
    ValueError
        If the file is no such model, or holds types other than :data:`MODEL_TYPES` and those that skops knows as safe.
    """
    import zipfile

    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        loaded = skops.io.load(path, trusted=list(MODEL_TYPES))
    except UntrustedTypesFoundException as error:
        names = ", ".join(kind.__name__ for kind in MODEL_TYPES)
        raise ValueError(f"{path}: a model is made of {names} and what skops knows as safe; {error}") from error
    except (zipfile.BadZipFile, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: must be a model in the form of skops; found something else ({error})") from error
    if not isinstance(loaded, TileClassifier):
        raise ValueError(f"{path}: must hold a TileClassifier; found {type(loaded).__name__}")
    for forest in (loaded.estimator, getattr(loaded.estimator, "forest", None)):
        if isinstance(forest, ExtraTreesClassifier):
            _check_trees(path, forest)
    return loaded


def _check_trees(path: str, forest: ExtraTreesClassifier) -> None:
    """Raise if a tree's nodes lead anywhere but downwards, or ask for a feature that is not there."""
    for number, grown in enumerate(forest.estimators_):
        tree = grown.tree_
        # scikit-learn stops at -1, and at no other number below 0
        node, leaf = np.arange(tree.node_count), tree.children_left == -1
        sides = (tree.children_left, tree.children_right)
        downwards = all(((side > node) & (side < tree.node_count) | leaf).all() for side in sides)
        known = ((tree.feature >= 0) & (tree.feature < tree.n_features) | leaf).all()
        if not (downwards and known and tree.node_count == tree.capacity and tree.n_features == forest.n_features_in_):
            raise ValueError(f"{path}: the nodes of a tree must form a tree; not so in tree {number}")


def _seed(master_seed: int, factors: Factors, part: object) -> int:
    """Return the seed of a fold's fits, or of the refit."""
    return seeds.integer(
        *(master_seed, "classifier", factors.dataset, factors.task, factors.split, factors.seed),
        *(factors.features, factors.classifier, part),
    )


def _check(classifier: RowClassifier, feature_set: FeatureSet, classes: Sequence[str]) -> None:
    """Raise if the classifier does not fit the features or the classes, before anything is read."""
    cross_validation.parameter_grid(classifier, KINDS[classifier.kind].tuned)
    if isinstance(classifier, LeafFrequencies) and not isinstance(feature_set, WindowSet):
        raise ValueError("leaf frequencies are those of random windows of the pixels; found features of networks")
    if len(classes) < 2:
        raise ValueError(f"classes must be two or more; found {list(classes)}")


def _check_sets(table: tile_table.TileIndex, split_file: str) -> None:
    for name in ("train", "test"):
        if not (table.set == name).any():
            raise ValueError(f"{split_file}: tiles with features are needed in train and test; found none in {name}")


def _subsets(selection: str | Sequence[str], table: tile_table.TileIndex, factors: Factors) -> Subsets | None:
    """Return the subsets of features to learn on, or None without a selection."""
    if not selection:
        return None
    path = selection if isinstance(selection, str) else selection[0]
    subsets = read_subsets(path)
    expected = {
        "columns": [[part.network, part.layer, part.start, part.stop] for part in table.columns],
        "dataset": factors.dataset,
        "task": factors.task,
        "split": factors.split,
        "seed": factors.seed,
    }
    for name, value in expected.items():
        if subsets.attributes[name] != value:
            raise ValueError(
                f"{path}: the features that are learnt on must have been selected on the same {name}, {value!r}; found "
                f"{subsets.attributes[name]!r}"
            )
    return subsets


def _all_chosen(subsets: Subsets) -> np.ndarray:
    """Return the columns that any model learns on, ascending."""
    return np.unique(np.concatenate([subsets.chosen(), *(subsets.chosen(fold) for fold in subsets.fold_orders)]))


def _fit(
    inside: tile_table.TileTable,
    *,
    classifier: RowClassifier,
    windows: Windows | None,
    classes: Sequence[str],
    subsets: Subsets | None,
    seed_of: Callable[[object], int],
    threads: int,
) -> tuple[TileClassifier, cross_validation.Tuned]:
    """Tune, refit and calibrate on the rows of train and validation, which are all that comes in."""
    kind = KINDS[classifier.kind]
    grid = cross_validation.parameter_grid(classifier, kind.tuned)
    labelled = inside.label != NO_LABEL
    x = inside.features if labelled.all() else inside.features[labelled]
    y = inside.label[labelled].astype(np.int64)

    def places(fold: int | None) -> np.ndarray | slice:
        """Return where the columns for a fold's models, or for the refit, stand among those that were read."""
        return slice(None) if subsets is None else np.searchsorted(_all_chosen(subsets), subsets.chosen(fold))

    def prepared(fold: int | None) -> cross_validation.Fit:
        return prepare(classifier, x[:, places(fold)], y, windows=windows, threads=threads)

    def scores_of(model: Any, fold: int, rows: np.ndarray) -> np.ndarray:
        columns = places(fold)
        # a stretch at a time: a fold's rows are up to half the matrix, and would be held twice
        step = _SCORED_ROWS * max(1, _SCORED_BYTES // (_SCORED_ROWS * inside.features[:1].nbytes))
        stretches = [rows[start : start + step] for start in range(0, len(rows), step)]
        return np.concatenate([_scores(model, inside.features[stretch][:, columns]) for stretch in stretches])

    # one Gram matrix, or what else a kind prepares, serves all folds that learn on the same columns
    refit = prepared(None)
    tuned = cross_validation.cross_validate(
        (lambda fold: refit) if subsets is None else prepared,
        scores_of,
        label=inside.label,
        fold=inside.fold,
        classes=classes,
        grid=grid,
        metric=classifier.tuning_metric,
        seed_of=seed_of,
        workers=threads if kind.side_by_side else 1,
    )
    estimator = next(refit(np.arange(len(y)), [grid[tuned.chosen]], seed_of("refit")))
    sigmoids = calibration.fit_sigmoids(tuned.out_of_fold[labelled], y) if kind.margins else None
    return TileClassifier(estimator, list(classes), sigmoids, None if subsets is None else subsets.chosen()), tuned


def _predictions(
    rows: tile_table.TileTable, fitted: TileClassifier, score: np.ndarray, fold: np.ndarray | None = None
) -> Predictions:
    return Predictions(
        *(values.tolist() for values in (rows.tile, rows.image, rows.slide, rows.group)),
        true=rows.label,
        score=score,
        probability=fitted.probabilities(score),
        fold=fold,
    )


def _attributes_of_factors(factors: Factors, split: Split) -> dict[str, Any]:
    return {
        "dataset": factors.dataset,
        "task": factors.task,
        "split": factors.split,
        "seed": factors.seed,
        "features": factors.features,
        "classifier": factors.classifier,
        "unit": split.unit,
        "share_groups": split.share_groups,
    }


def _attributes_of_features(table: tile_table.TileIndex, fitted: TileClassifier) -> dict[str, Any]:
    return {
        "group_unit": table.unit,
        "network": str(table.attributes.get("network", "")),
        "weights": str(table.attributes.get("weights", "")),
        "features_versions": table.attributes.get("versions", {}),
        "untrained": bool(table.attributes.get("untrained", False)),
        # of a network that was trained on these labels: inner cross-validation is then optimistic
        "saw_labels": bool(table.attributes.get("saw_labels", False)),
        "columns": [[part.network, part.layer, part.stop - part.start] for part in table.columns],
        "n_features": table.n_features,
        "n_selected": table.n_features if fitted.columns is None else len(fitted.columns),
    }


def _attributes_of_training(
    inside: tile_table.TileTable,
    classifier: RowClassifier,
    fitted: TileClassifier,
    tuned: cross_validation.Tuned,
) -> dict[str, Any]:
    trained = inside.label != NO_LABEL
    margins = KINDS[classifier.kind].margins
    return {
        "chosen": tuned.grid[tuned.chosen],
        "tuning_metric": classifier.tuning_metric,
        "calibration": calibration.DESCRIPTION if margins else "none: the classifier's own probabilities",
        "n_train_tiles": int(trained.sum()),
        "n_train_groups": len(set(inside.group[trained].tolist())),
        "classes": list(fitted.class_names),
    }


def _scores(estimator: Any, x: np.ndarray) -> np.ndarray:
    if hasattr(estimator, "decision_function"):
        return estimator.decision_function(x)
    return np.asarray(estimator.predict_proba(x), dtype=np.float64)
