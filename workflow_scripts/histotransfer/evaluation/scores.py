"""Scores of one set of predictions with their intervals, and the table of all scores of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from histotransfer import metrics, seeds, store
from histotransfer.evaluation import resampling
from histotransfer.predictions import NO_LABEL, Predictions, read_attributes, read_predictions

SCORE_COLUMNS = ("level", "metric", "class", "value", "low", "high", "n", "groups", "unit", "note")
CONFUSION_COLUMNS = ("level", "true", "predicted", "count")

#: What each row of a study's table begins with.
FACTOR_COLUMNS = ("dataset", "task", "split", "share_groups", "seed", "features", "classifier", "weights")

#: Metrics of all classes together, and of each class against the others, in the order of the table.
OVERALL = ("accuracy", "balanced_accuracy", "roc_auc", "pr_auc", "precision", "recall", "f1", "log_loss")
OF_PATCHES = ("eta_p", "eta_w", "eta_total")
PER_CLASS = ("roc_auc", "pr_auc", "precision", "recall", "f1")

UNTRAINED = "untrained"


@dataclass(frozen=True)
class Level:
    """What is scored at one level: tiles, or slides.

    Attributes
    ----------
    name : str
        ``tile`` or ``slide``.
    true : ndarray of int, shape (n,)
    score : ndarray of float64, shape (n, n_classes)
        At slide level the mean probability over the slide's tiles.
    probability : ndarray of float64, shape (n, n_classes)
    slide : ndarray of int, shape (n,)
        Index of the slide.
    group : ndarray of int, shape (n,)
        Index of the group that is resampled.
    unit : str
        What that group is.
    note : str
        Why nothing can be scored, or ``""``.
    """

    name: str
    true: np.ndarray
    score: np.ndarray
    probability: np.ndarray
    slide: np.ndarray
    group: np.ndarray
    unit: str
    note: str = ""


def score(*, predictions: str, scores: str, confusion: str, bootstrap: int, master_seed: int) -> None:
    """Write every metric of the held-out tiles and slides, with 95 % intervals, and the confusion matrices.

    Parameters
    ----------
    predictions : path
    scores, confusion : path
        Written. In `scores`, rows with an empty ``class`` are of all classes together: ROC AUC and PR AUC are then
        of the second of two classes, else the mean over classes, as precision, recall and F1 are. Log loss is of the
        probabilities, lower is better. ``n`` counts tiles or slides (in a class's rows: those of the class),
        ``groups`` the groups of ``unit`` that were resampled.
        A value that is undefined is empty, and ``note`` says why.
    bootstrap : int
        Resamples of the groups; 0: no intervals.
    master_seed : int
        The same groups are drawn for every method on the same split, so that methods can be compared pairwise.

    Notes
    -----
    Percentile intervals (Efron and Tibshirani 1993, chapter 13) from resampling whole groups with replacement.
    At slide level, where the split's unit is finer than a slide, slides are resampled.
    """
    held_out, _, attributes = read_predictions(predictions)
    classes = attributes["classes"]
    rows: list[dict[str, Any]] = []
    counts: list[dict[str, Any]] = []
    for level in (_tiles(held_out, attributes), _slides(held_out, attributes)):
        factors = (attributes["dataset"], attributes["task"], attributes["split"], attributes["seed"], level.name)
        random = seeds.generator(master_seed, "bootstrap", *factors)
        rows += _score_rows(level, classes, bootstrap, random)
        if not level.note:
            matrix = metrics.confusion_matrix(level.true, level.score.argmax(axis=1), len(classes))
            counts += confusion_rows(level.name, classes, matrix)
    store.write_table(scores, SCORE_COLUMNS, rows)
    store.write_table(confusion, CONFUSION_COLUMNS, counts)


def collect(*, scores: Sequence[str], predictions: Sequence[str], table: str) -> None:
    """Write the scores of a study's models as one table.

    Parameters
    ----------
    scores, predictions : sequence of path
        Of the same models in the same order.
    table : path
        Written: the model's factors, then the columns of its scores; sorted by dataset, task, split, seed, features and
        classifier, within a model as scored. ``weights`` is ``untrained`` where any network was.
    """
    models = []
    for score_file, prediction_file in zip(scores, predictions, strict=True):
        attributes = read_attributes(prediction_file)
        weights = UNTRAINED if attributes["untrained"] else Path(attributes["weights"]).name
        factors = {**{name: attributes[name] for name in FACTOR_COLUMNS if name != "weights"}, "weights": weights}
        order = tuple(attributes[name] for name in ("dataset", "task", "split", "seed", "features", "classifier"))
        models.append((order, factors, store.read_table(score_file)))
    models.sort(key=lambda model: model[0])
    rows = ({**factors, **row} for _, factors, of_model in models for row in of_model)
    store.write_table(table, (*FACTOR_COLUMNS, *SCORE_COLUMNS), rows)


def _tiles(predictions: Predictions, attributes: Mapping[str, Any]) -> Level:
    kept = np.flatnonzero(predictions.true != NO_LABEL)
    return Level(
        name="tile",
        true=predictions.true[kept].astype(np.int64),
        score=predictions.score[kept],
        probability=predictions.probability[kept],
        slide=_numbered(np.array(predictions.slide, dtype=object)[kept]),
        group=_numbered(np.array(predictions.group, dtype=object)[kept]),
        unit=attributes["group_unit"],
        note="" if kept.size else "no tile of the test groups has a label",
    )


def _slides(predictions: Predictions, attributes: Mapping[str, Any]) -> Level:
    """Average probabilities over each slide's labelled tiles; its class is the one that they all have."""
    kept = np.flatnonzero(predictions.true != NO_LABEL)
    true = predictions.true[kept].astype(np.int64)
    names = np.array(predictions.slide, dtype=object)[kept]
    groups = np.array(predictions.group, dtype=object)[kept]
    slide = _numbered(names)
    n_slides = int(slide.max(initial=-1)) + 1
    tiles = np.bincount(slide, minlength=n_slides)
    probability = np.stack(
        [np.bincount(slide, weights=column, minlength=n_slides) for column in predictions.probability[kept].T], axis=1
    ) / np.maximum(tiles, 1).reshape(-1, 1)
    first = np.full(n_slides, -1)
    first[slide[::-1]] = np.arange(len(slide))[::-1]
    mixed = len(set(slide[true != true[first[slide]]].tolist())) if n_slides else 0
    whole = attributes["group_unit"] in ("slide", "patient")
    if not n_slides:
        note = "no tile of the test groups has a label"
    elif mixed:
        note = f"a slide has no class of its own: {mixed} of {n_slides} slides have tiles of several classes"
    else:
        note = ""
    return Level(
        name="slide",
        true=true[first],
        score=probability,
        probability=probability,
        slide=np.arange(n_slides),
        group=_numbered(groups[first]) if whole else np.arange(n_slides),
        unit=attributes["group_unit"] if whole else "slide",
        note=note,
    )


def _numbered(names: Sequence[str]) -> np.ndarray:
    """Return the position of each name among the sorted different names."""
    position = {name: k for k, name in enumerate(sorted(set(names)))}
    return np.array([position[name] for name in names], dtype=np.int64)


def _score_rows(
    level: Level, classes: Sequence[str], bootstrap: int, random: np.random.Generator
) -> list[dict[str, Any]]:
    names = _metric_names(level.name, classes)
    n_groups = len(set(level.group.tolist()))
    common = {"level": level.name, "unit": level.unit}
    if level.note:
        return [
            {**common, "metric": metric, "class": name, "n": 0, "groups": 0, "note": level.note}
            for metric, name in names
        ]
    values = _values(level, len(classes), np.ones((len(level.true), 1)), None)[:, 0]
    resampled = _resampled(level, len(classes), n_groups, bootstrap, random) if n_groups > 1 and bootstrap else None
    of_class = np.bincount(level.true, minlength=len(classes))
    rows = []
    for k, (metric, name) in enumerate(names):
        row = {**common, "metric": metric, "class": name, "groups": n_groups}
        row["n"] = int(of_class[classes.index(name)]) if name else len(level.true)
        if np.isnan(values[k]):
            row["note"] = _why_undefined(metric, name, classes, of_class)
        else:
            row["value"] = float(values[k])
            of_metric = None if resampled is None else resampled[k]
            interval = resampling.percentile_interval(
                of_metric, n_groups=n_groups, unit=level.unit, bootstrap=bootstrap
            )
            row |= vars(interval)
        rows.append(row)
    return rows


def _metric_names(level: str, classes: Sequence[str]) -> list[tuple[str, str]]:
    overall = OVERALL + (OF_PATCHES if level == "tile" else ())
    return [(metric, "") for metric in overall] + [(metric, name) for name in classes for metric in PER_CLASS]


def _values(level: Level, n_classes: int, weights: np.ndarray, copies: np.ndarray | None) -> np.ndarray:
    """Return all metrics in the order of :func:`_metric_names`, (n_metrics, r), for weights of shape (n, r)."""
    predicted = level.score.argmax(axis=1)
    counts = metrics.class_counts(level.true, predicted, n_classes, weights)
    areas = [metrics.rank_areas(level.true == k, level.score[:, k], weights) for k in range(n_classes)]
    per_class = {
        "roc_auc": np.stack([area.roc for area in areas], axis=-1),
        "pr_auc": np.stack([area.pr for area in areas], axis=-1),
        "precision": metrics.precision(counts),
        "recall": metrics.recall(counts),
        "f1": metrics.f1(counts),
    }
    share = metrics.accuracy(counts)
    overall = {"accuracy": share, **{name: metrics.macro(values) for name, values in per_class.items()}}
    overall["balanced_accuracy"] = overall["recall"]
    overall["log_loss"] = metrics.log_loss(level.true, level.probability, weights)
    if n_classes == 2:
        overall |= {name: per_class[name][..., 1] for name in ("roc_auc", "pr_auc")}
    found = [overall[name] for name in OVERALL]
    if level.name == "tile":
        of_slides = metrics.slide_accuracy(predicted == level.true, level.slide, weights, copies)
        found += [share, of_slides, share * of_slides]
    found += [per_class[name][..., k] for k in range(n_classes) for name in PER_CLASS]
    return np.stack(found)


def _resampled(level: Level, n_classes: int, n_groups: int, bootstrap: int, random: np.random.Generator) -> np.ndarray:
    """Return all metrics of all resamples, (n_metrics, bootstrap)."""
    slide_groups = _group_of_slides(level)

    def values(times: np.ndarray) -> np.ndarray:
        return _values(level, n_classes, times[level.group], None if slide_groups is None else times[slide_groups])

    return resampling.resampled(values, n_groups=n_groups, bootstrap=bootstrap, random=random, n_rows=len(level.true))


def _group_of_slides(level: Level) -> np.ndarray | None:
    """Return each slide's group if every slide lies in one, else None."""
    group = np.empty(int(level.slide.max()) + 1, dtype=np.int64)
    group[level.slide] = level.group
    return group if (group[level.slide] == level.group).all() else None


def _why_undefined(metric: str, name: str, classes: Sequence[str], of_class: np.ndarray) -> str:
    absent = [name for name, count in zip(classes, of_class, strict=True) if count == 0]
    if name and name not in absent:
        return f"undefined: the test groups hold no other class than {name}"
    return f"undefined: absent from the test groups: {', '.join(absent)}"


def confusion_rows(level: str, classes: Sequence[str], counts: np.ndarray) -> list[dict[str, Any]]:
    """Return the rows of a confusion matrix, with the columns :data:`CONFUSION_COLUMNS`."""
    return [
        {"level": level, "true": true, "predicted": predicted, "count": int(counts[i, j])}
        for i, true in enumerate(classes)
        for j, predicted in enumerate(classes)
    ]
