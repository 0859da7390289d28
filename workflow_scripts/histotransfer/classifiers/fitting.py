"""Classifiers on features: linear SVMs, ExtraTrees, the single-layer perceptron; tuned, refitted, calibrated, written.

Nothing here looks at a test group before the model is finished.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.tree._tree import Tree
from threadpoolctl import threadpool_limits

from histotransfer import seeds, store
from histotransfer.classifiers import calibration, cross_validation, leaf_frequencies, linear_svm, perceptron
from histotransfer.classifiers.subsets import Subsets, read_subsets
from histotransfer.cohort import splits
from histotransfer.predictions import NO_LABEL, Predictions, write_predictions
from histotransfer.tables import tile_table

#: ASSUME accuracy where the study names no metric to tune by: it is what most of the papers report.
TUNING_METRIC = "accuracy"

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


@dataclass(frozen=True)
class Kind:
    """A kind of classifier.

    Attributes
    ----------
    tuned : tuple of str
        Names of its parameters that may be lists.
    prepare : callable
        ``prepare(x, y, threads=, **settings)`` returns ``fit(rows, grid, seed)``.
    margins : bool
        Whether its scores are margins, which need a calibration.
    side_by_side : bool
        Whether folds may be fitted in threads side by side.
    """

    tuned: tuple[str, ...]
    prepare: Callable[..., cross_validation.Fit]
    margins: bool
    side_by_side: bool


def extratrees(
    x: np.ndarray, y: np.ndarray, *, threads: int, trees: int = 250, min_samples_leaf: int = 1, **_: Any
) -> cross_validation.Fit:
    """Prepare fits of extremely randomised trees (Geurts, Ernst and Wehenkel 2006) on subsets of the same rows.

    Parameters
    ----------
    x : ndarray of float32, shape (n, n_features)
    y : ndarray of int, shape (n,)
    threads : int
        For growing trees; each has a seed of its own.
    trees, min_samples_leaf : int

    Returns
    -------
    callable
        ``fit(rows, grid, seed)`` yields one ``ExtraTreesClassifier`` per entry of the grid: ``{"max_features": ...}``,
        features looked at per node: ``sqrt``, ``log2``, ``all``, a share or a number.
    """

    def fit(rows: np.ndarray, grid: Sequence[Mapping[str, Any]], seed: int) -> Iterator[ExtraTreesClassifier]:
        # all rows, in order, for the refit: no second copy of the matrix
        own = x if np.array_equal(rows, np.arange(len(x))) else x[rows]
        for parameters in grid:
            asked = parameters["max_features"]
            model = ExtraTreesClassifier(
                n_estimators=trees,
                min_samples_leaf=min_samples_leaf,
                max_features=None if asked == "all" else asked,
                random_state=seed,
                n_jobs=threads,
            ).fit(own, y[rows])
            # predicting in threads adds the trees' votes in the order in which they finish
            yield model.set_params(n_jobs=1)

    return fit


KINDS = {
    "libsvm": Kind(("C",), linear_svm.libsvm, margins=True, side_by_side=True),
    # LIBLINEAR keeps one random generator per process
    "liblinear": Kind(("C",), linear_svm.liblinear, margins=True, side_by_side=False),
    "extratrees": Kind(("max_features",), extratrees, margins=False, side_by_side=False),
    "perceptron": Kind(("learning_rate", "iterations"), perceptron.perceptron, margins=False, side_by_side=True),
    "leaf_frequencies": Kind(("C",), leaf_frequencies.leaf_frequencies, margins=True, side_by_side=False),
}


def train(
    *,
    features: Sequence[str],
    labels: Sequence[str],
    slides_table: str,
    split_file: str,
    model: str,
    predictions: str,
    tuning: str,
    classifier: Mapping[str, Any],
    feature_set: Mapping[str, Any],
    classes: Sequence[str],
    split: Mapping[str, Any],
    dataset: str,
    task: str,
    split_name: str,
    features_name: str,
    classifier_name: str,
    split_seed: int,
    master_seed: int,
    selection: str | Sequence[str] = (),
    threads: int = 1,
) -> None:
    """Tune a classifier inside the training groups, refit it on all of them, predict the groups held out.

    Parameters
    ----------
    features, labels : sequence of path
        Manifests of the network's shards; label tables of the task.
    slides_table, split_file : path
        The cohort's table; groups with their sets and folds.
    model, predictions, tuning : path
        Written: ``model.skops``, ``predictions.h5``, ``tuning.tsv``.
    classifier : mapping
        ``kind`` (one of :data:`KINDS`), lists of values of what is tuned, ``tuning_metric``, and what else its kind
        has.
    feature_set : mapping
        ``sources`` or ``windows``: see :func:`tile_table.read`.
    classes : sequence of str
        In declared order.
    split : mapping
        ``unit``, ``share_groups``, and how many tiles are trained on at most: ``train_tiles``,
        ``train_tiles_per_class``.
    dataset, task, split_name, features_name, classifier_name : str
        Factors of the study: written with the predictions, and what tells this use of chance from others.
    split_seed, master_seed : int
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
    kind = _kind(classifier)
    metric = classifier.get("tuning_metric") or TUNING_METRIC
    grid = cross_validation.parameter_grid(classifier, kind.tuned)
    if classifier["kind"] == "leaf_frequencies" and "windows" not in feature_set:
        raise ValueError("leaf frequencies are those of random windows of the pixels; found features of networks")
    if len(classes) < 2:
        raise ValueError(f"telling classes apart takes two or more; found {list(classes)}")
    factors = (dataset, task, split_name, split_seed, features_name, classifier_name)
    # BLAS' own threads change the last bits of its sums; threads work on whole folds, blocks and trees instead
    with threadpool_limits(limits=1, user_api="blas"):
        table = tile_table.read(
            features=features,
            labels=labels,
            slides_table=slides_table,
            split_file=split_file,
            split=split,
            feature_set=feature_set,
            classes=classes,
            master_seed=master_seed,
        )
        _check_sets(table, split_file)
        drawn = tile_table.draw(
            table,
            tiles=split.get("train_tiles"),
            tiles_per_class=split.get("train_tiles_per_class"),
            split_seed=split_seed,
            master_seed=master_seed,
        )
        subsets = _subsets(selection, table, dataset=dataset, task=task, split=split_name, seed=split_seed)
        inside = table.rows(
            drawn | ((table.set != "test") & (table.label == NO_LABEL)),
            columns=None if subsets is None else _all_chosen(subsets),
        )
        tile_table.check_features_vary(inside)
        fitted, tuned = _fit(
            inside,
            kind=kind,
            settings={**classifier, **feature_set.get("windows", {})},
            grid=grid,
            metric=metric,
            classes=classes,
            subsets=subsets,
            seed_of=lambda part: seeds.integer(master_seed, "classifier", *factors, part),
            threads=threads,
        )
        held_out = table.rows(table.set == "test", columns=fitted.columns)
        score = _scores(fitted.estimator, held_out.features)
        columns = ("tile", "image", "slide", "group")
        trained = inside.label != NO_LABEL
        chosen = grid[tuned.chosen]
        write_predictions(
            predictions,
            held_out=Predictions(
                **{name: getattr(held_out, name).tolist() for name in columns},
                true=held_out.label,
                score=score,
                probability=fitted.probabilities(score),
            ),
            out_of_fold=Predictions(
                **{name: getattr(inside, name).tolist() for name in columns},
                true=inside.label,
                score=tuned.out_of_fold,
                probability=fitted.probabilities(tuned.out_of_fold),
                fold=inside.fold,
            ),
            attributes={
                "dataset": dataset,
                "task": task,
                "split": split_name,
                "unit": split["unit"],
                "group_unit": inside.unit,
                "share_groups": splits.reason_to_share(split),
                "seed": split_seed,
                "features": features_name,
                "network": str(inside.attributes.get("network", "")),
                "weights": str(inside.attributes.get("weights", "")),
                "features_versions": inside.attributes.get("versions", {}),
                "untrained": bool(inside.attributes.get("untrained", False)),
                # of a network that was trained on these labels: inner cross-validation is then optimistic
                "saw_labels": bool(inside.attributes.get("saw_labels", False)),
                "columns": [[part.network, part.layer, part.stop - part.start] for part in table.columns],
                "n_features": table.n_features,
                "n_selected": table.n_features if fitted.columns is None else len(fitted.columns),
                "classifier": classifier_name,
                "chosen": chosen,
                "tuning_metric": metric,
                "calibration": calibration.DESCRIPTION if kind.margins else "none: the classifier's own probabilities",
                "n_train_tiles": int(trained.sum()),
                "n_train_groups": len(set(inside.group[trained].tolist())),
                "classes": list(classes),
            },
        )
        cross_validation.write(tuning, tuned, metric)
        save_model(model, fitted)


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


def _kind(classifier: Mapping[str, Any]) -> Kind:
    if classifier.get("kind") not in KINDS:
        raise ValueError(f"a classifier's kind must be one of {', '.join(KINDS)}; found {classifier.get('kind')!r}")
    return KINDS[classifier["kind"]]


def _check_sets(table: tile_table.TileIndex, split_file: str) -> None:
    for name in ("train", "test"):
        if not (table.set == name).any():
            raise ValueError(f"{split_file}: tiles with features are needed in train and test; found none in {name}")


def _subsets(selection: str | Sequence[str], table: tile_table.TileIndex, **factors: Any) -> Subsets | None:
    """Return the subsets of features to learn on, or None without a selection."""
    if not selection:
        return None
    path = selection if isinstance(selection, str) else selection[0]
    subsets = read_subsets(path)
    columns = [[part.network, part.layer, part.start, part.stop] for part in table.columns]
    expected = {"columns": columns, **factors}
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
    kind: Kind,
    settings: Mapping[str, Any],
    grid: list[dict[str, Any]],
    metric: str,
    classes: Sequence[str],
    subsets: Subsets | None,
    seed_of: Callable[[object], int],
    threads: int,
) -> tuple[TileClassifier, cross_validation.Tuned]:
    """Tune, refit and calibrate on the rows of train and validation, which are all that comes in."""
    labelled = inside.label != NO_LABEL
    x = inside.features if labelled.all() else inside.features[labelled]
    y = inside.label[labelled].astype(np.int64)
    fixed = {name: value for name, value in settings.items() if name not in (*kind.tuned, "kind", "threads")}

    def places(fold: int | None) -> np.ndarray | slice:
        """Return where the columns for a fold's models, or for the refit, stand among those that were read."""
        return slice(None) if subsets is None else np.searchsorted(_all_chosen(subsets), subsets.chosen(fold))

    def prepared(fold: int | None) -> cross_validation.Fit:
        return kind.prepare(x[:, places(fold)], y, threads=threads, **fixed)

    def scores_of(model: Any, fold: int, rows: np.ndarray) -> np.ndarray:
        columns = places(fold)
        # a stretch at a time: a fold's rows are up to half the matrix, and would be held twice
        step = _SCORED_ROWS * max(1, _SCORED_BYTES // (_SCORED_ROWS * inside.features[:1].nbytes))
        stretches = [rows[start : start + step] for start in range(0, len(rows), step)]
        return np.concatenate([_scores(model, inside.features[own][:, columns]) for own in stretches])

    # one Gram matrix, or what else a kind prepares, serves all folds that learn on the same columns
    refit = prepared(None)
    tuned = cross_validation.cross_validate(
        (lambda fold: refit) if subsets is None else prepared,
        scores_of,
        label=inside.label,
        fold=inside.fold,
        classes=classes,
        grid=grid,
        metric=metric,
        seed_of=seed_of,
        workers=threads if kind.side_by_side else 1,
    )
    estimator = next(refit(np.arange(len(y)), [grid[tuned.chosen]], seed_of("refit")))
    sigmoids = calibration.fit_sigmoids(tuned.out_of_fold[labelled], y) if kind.margins else None
    return TileClassifier(estimator, list(classes), sigmoids, None if subsets is None else subsets.chosen()), tuned


def _scores(estimator: Any, x: np.ndarray) -> np.ndarray:
    if hasattr(estimator, "decision_function"):
        return estimator.decision_function(x)
    return np.asarray(estimator.predict_proba(x), dtype=np.float64)
