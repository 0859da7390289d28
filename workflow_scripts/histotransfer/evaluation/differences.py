"""Differences between methods on the same test groups, with intervals from resampling these groups in pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from histotransfer import metrics, seeds, store
from histotransfer.evaluation import ranking, resampling
from histotransfer.predictions import NO_LABEL, Predictions, read_predictions
from histotransfer.problems import listing

COLUMNS = (
    *("dataset", "task", "metric", "method", "untrained", "reference", "reference_untrained"),
    *("difference", "low", "high", "groups", "unit", "seeds", "note"),
)

#: What a resample lacks in which a difference is undefined, by metric.
_LACKING = {"accuracy": "all test groups of a seed", "roc_auc": "a class in the test groups of a seed"}


@dataclass
class _TestSet:
    """The labelled tiles that one seed holds out, and what each method says of them.

    Attributes
    ----------
    path : str
        The first file that was read: the others must be of the same tiles.
    tile : list of tuple of str
        Image and tile of each row.
    group : ndarray of object, shape (n,)
    true : ndarray of int64, shape (n,)
    said : dict
        Method to an ndarray of shape (n,): bool, whether each tile is predicted correctly, or float64, its score for
        the second of two classes.
    """

    path: str
    tile: list[tuple[str, str]]
    group: np.ndarray
    true: np.ndarray
    said: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass
class _Task:
    """One task of one dataset: the test set of each seed, in the order of the files; the methods without training."""

    classes: list[str]
    unit: str
    test_sets: dict[str, _TestSet] = field(default_factory=dict)
    untrained: set[str] = field(default_factory=set)

    @property
    def metric(self) -> str:
        return ranking.metric_of(len(self.classes))


def compare(
    *,
    predictions: Sequence[str],
    table: str,
    methods: Sequence[str],
    reference: str,
    split: str,
    bootstrap: int,
    master_seed: int,
) -> None:
    """Write the difference of each method to a reference with its 95 % interval, for each task of each dataset.

    Parameters
    ----------
    predictions : sequence of path
        Predictions with this split, at least those of the methods and of the reference; others are passed over.
    table : path
        CSV to write, a row a dataset, task and method in this order, the reference left out: ``metric`` (tile level;
        ROC AUC of two classes, else accuracy), ``difference`` (score of ``method`` less that of ``reference``, averaged
        over ``seeds`` seeds), ``low`` and ``high``, the ``groups`` of ``unit`` that were resampled; ``untrained`` and
        ``reference_untrained`` (yes where it reads a network with random weights). A difference that is undefined is
        empty, and ``note`` says why.
    methods : sequence of str
        ``FEATURES+CLASSIFIER``.
    reference : str
        The method that the others are compared to.
    split : str
    bootstrap : int
        Resamples of the groups; 0: no intervals.
    master_seed : int
        All methods are scored on the same resamples.

    Raises
    ------
    ValueError
        If a method has no predictions, or two methods predict different tiles.

    Notes
    -----
    Paired percentile bootstrap (Efron and Tibshirani 1993, chapter 13): the groups of the union of the seeds' test sets
    are drawn with replacement; each seed is scored on the drawn groups of its own test set, both methods on the same
    ones, and the differences are averaged over the seeds as the difference itself is. A group that several seeds hold
    out is drawn for all of them, since it is the same patient. The trained models are taken as they are: the interval
    is over the patients that could have been tested, not over those that could have been trained on. Seeds in whose
    test set the metric is undefined are left out, and so are resamples in which it is for one of the seeds.
    """
    twice = [name for name, times in Counter(methods).items() if times > 1]
    if twice:
        raise ValueError(f"methods to compare must be named once each; found {listing(twice)} twice")
    tasks = _read(predictions, {*methods, reference}, split)
    there = {method for task in tasks.values() for test_set in task.test_sets.values() for method in test_set.said}
    absent = [method for method in (*methods, reference) if method not in there]
    if absent:
        raise ValueError(
            f"every method to compare must have predictions with split {split!r}; {listing(absent)} has none, "
            f"found those of {listing(sorted(there))}"
        )
    others = [method for method in methods if method != reference]
    rows = []
    for (dataset, task_name), task in sorted(tasks.items()):
        random = seeds.generator(master_seed, "bootstrap of differences", dataset, task_name, split)
        common = {"dataset": dataset, "task": task_name, "metric": task.metric, "reference": reference}
        rows += [{**common, **row} for row in _rows(task, others, reference, bootstrap, random)]
    store.write_csv(table, COLUMNS, rows)


def _read(predictions: Sequence[str], methods: set[str], split: str) -> dict[tuple[str, str], _Task]:
    tasks: dict[tuple[str, str], _Task] = {}
    for path in predictions:
        held_out, _, said = read_predictions(path)
        method = ranking.method_of(said)
        if said["split"] != split or method not in methods:
            continue
        key = (said["dataset"], said["task"])
        task = tasks.setdefault(key, _Task(classes=said["classes"], unit=said["group_unit"]))
        if said["classes"] != task.classes:
            raise ValueError(
                f"{path}: methods to compare must have the classes {', '.join(task.classes)} in this order; found "
                f"{', '.join(said['classes'])}"
            )
        found = _test_set(str(path), held_out)
        first = task.test_sets.setdefault(str(said["seed"]), found)
        _check_same(first, found)
        first.said[method] = _judged(held_out, task.metric)
        if said["untrained"]:
            task.untrained.add(method)
    return tasks


def _test_set(path: str, held_out: Predictions) -> _TestSet:
    kept = np.flatnonzero(held_out.true != NO_LABEL)
    return _TestSet(
        path=path,
        tile=[(held_out.image[k], held_out.tile[k]) for k in kept],
        group=np.array(held_out.group, dtype=object)[kept],
        true=held_out.true[kept].astype(np.int64),
    )


def _check_same(first: _TestSet, found: _TestSet) -> None:
    """Raise ValueError unless two files of one seed hold out the same tiles, so that they can be compared in pairs."""
    for what, ours, theirs in (
        ("tiles", first.tile, found.tile),
        ("groups", first.group.tolist(), found.group.tolist()),
        ("true classes", first.true.tolist(), found.true.tolist()),
    ):
        if ours != theirs:
            differ = sum(a != b for a, b in zip(ours, theirs, strict=False)) + abs(len(ours) - len(theirs))
            raise ValueError(
                f"{found.path}: methods are compared on the same held-out {what}, those of {first.path}; found "
                f"{differ} of {max(len(ours), len(theirs))} that differ"
            )


def _judged(held_out: Predictions, metric: str) -> np.ndarray:
    kept = np.flatnonzero(held_out.true != NO_LABEL)
    if metric == "roc_auc":
        return held_out.score[kept, 1]
    return held_out.predicted[kept] == held_out.true[kept]


def _rows(
    task: _Task, methods: Sequence[str], reference: str, bootstrap: int, random: np.random.Generator
) -> list[dict[str, Any]]:
    names = sorted({name for test_set in task.test_sets.values() for name in test_set.group})
    position = {name: k for k, name in enumerate(names)}
    group = {
        seed: np.array([position[name] for name in test_set.group], dtype=np.int64)
        for seed, test_set in task.test_sets.items()
    }
    scores = {
        seed: _scores(task.metric, test_set, group[seed], np.ones((len(names), 1)))
        for seed, test_set in task.test_sets.items()
    }
    used = {method: _seeds_of(method, reference, scores) for method in methods}
    sums: dict[str, np.ndarray] = {}
    if bootstrap and len(names) > 1 and any(used.values()):
        sums = _resampled(task, group, len(names), used, reference, bootstrap, random)
    rows = []
    for method in methods:
        row = {"method": method, "groups": len(names), "unit": task.unit, "seeds": len(used[method])}
        row["untrained"] = "yes" if method in task.untrained else "no"
        row["reference_untrained"] = "yes" if reference in task.untrained else "no"
        notes = _missing(method, reference, used[method], scores)
        if used[method]:
            row["difference"] = float(_difference(scores, method, reference, used[method])[0])
            interval = resampling.percentile_interval(
                sums.get(method),
                n_groups=len(names),
                unit=task.unit,
                bootstrap=bootstrap,
                lacking=_LACKING[task.metric],
            )
            notes.append(interval.note)
            row |= {"low": interval.low, "high": interval.high}
        rows.append({**row, "note": "; ".join(filter(None, notes))})
    return rows


def _scores(metric: str, test_set: _TestSet, group: np.ndarray, times: np.ndarray) -> dict[str, np.ndarray]:
    """Return each method's score where each group counts as often as `times` (n_groups, r) says: NaN or float, (r,)."""
    if metric == "roc_auc":
        weights = times[group]
        positive = test_set.true == 1
        return {method: metrics.rank_areas(positive, said, weights).roc for method, said in test_set.said.items()}
    # accuracy goes by sums over groups, which are whole numbers and therefore exact in any order
    n_groups = len(times)
    tiles = np.bincount(group, minlength=n_groups) @ times
    right = np.stack([np.bincount(group, weights=said, minlength=n_groups) for said in test_set.said.values()]) @ times
    shares = np.divide(right, tiles, out=np.full(right.shape, np.nan), where=tiles > 0)
    return dict(zip(test_set.said, shares, strict=True))


def _seeds_of(method: str, reference: str, scores: Mapping[str, Mapping[str, np.ndarray]]) -> list[str]:
    """Return the seeds in which both have a score."""
    return [
        seed
        for seed, of_methods in scores.items()
        if all(name in of_methods and not np.isnan(of_methods[name][0]) for name in (method, reference))
    ]


def _missing(
    method: str, reference: str, used: Sequence[str], scores: Mapping[str, Mapping[str, np.ndarray]]
) -> list[str]:
    left_out = [seed for seed in scores if seed not in used]
    if not left_out:
        return []
    absent = [name for name in (method, reference) if any(name not in scores[seed] for seed in left_out)]
    why = f"without predictions of {', '.join(absent)}" if absent else "undefined: the test groups lack a class"
    which = f"seed {left_out[0]}" if len(left_out) == 1 else f"seeds {', '.join(left_out)}"
    return [f"{which} {why}" if absent else f"{which}: {why}"]


def _difference(
    scores: Mapping[str, Mapping[str, np.ndarray]], method: str, reference: str, used: Sequence[str]
) -> np.ndarray:
    return sum(scores[seed][method] - scores[seed][reference] for seed in used) / len(used)


def _resampled(
    task: _Task,
    group: Mapping[str, np.ndarray],
    n_groups: int,
    used: Mapping[str, list[str]],
    reference: str,
    bootstrap: int,
    random: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Return each method's difference in all resamples, (bootstrap,)."""
    methods = [method for method, seeds_used in used.items() if seeds_used]

    def differences(times: np.ndarray) -> np.ndarray:
        scores = {seed: _scores(task.metric, test_set, group[seed], times) for seed, test_set in task.test_sets.items()}
        return np.stack([_difference(scores, method, reference, used[method]) for method in methods])

    values = resampling.resampled(
        differences,
        n_groups=n_groups,
        bootstrap=bootstrap,
        random=random,
        n_rows=max(len(rows) for rows in group.values()),
    )
    return dict(zip(methods, values, strict=True))
