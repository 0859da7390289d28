"""Ranks of methods over datasets, and the best of each strategy beside the one that validation would have chosen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from histotransfer import metrics, store
from histotransfer.evaluation import scoreboard
from histotransfer.predictions import NO_LABEL, Predictions, read_predictions, read_validation
from histotransfer.problems import counted, listing

RANK_COLUMNS = ("method", "kind", "untrained", "average_rank")
STRATEGY_COLUMNS = (
    *("strategy", "dataset", "task", "metric", "oracle", "oracle_method", "chosen", "chosen_methods", "variants"),
    *("seeds", "oracle_untrained", "chosen_untrained", "note"),
)

#: Scores this close are equal: they differ by rounding.
TIE = 1e-12


@dataclass(frozen=True)
class Scored:
    """Scores of the methods on one task of one dataset.

    Attributes
    ----------
    dataset, task : str
    metric : {'roc_auc', 'accuracy'}
    values : dict
        Method to ``{seed: score}``; methods without any score are left out.
    seeds : tuple of str
        Those in which every method of `values` has a score, in the order of the table.
    seeds_left_out : tuple of str
        The others.
    """

    dataset: str
    task: str
    metric: str
    values: dict[str, dict[str, float]]
    seeds: tuple[str, ...]
    seeds_left_out: tuple[str, ...]

    @property
    def name(self) -> str:
        """Dataset and task as ``DATASET/TASK``."""
        return f"{self.dataset}/{self.task}"

    def mean(self, method: str) -> float | None:
        """Return a method's score averaged over the seeds that all methods share; None without one."""
        return mean_of(self.values[method][seed] for seed in self.seeds) if method in self.values else None


def mean_of(values: Any) -> float | None:
    """Return the arithmetic mean of an iterable of floats, None of nothing."""
    values = list(values)
    return sum(values) / len(values) if values else None


def metric_of(n_classes: int) -> str:
    """Return the metric that a task is compared by: ``roc_auc`` of two classes, else ``accuracy``."""
    return "roc_auc" if n_classes == 2 else "accuracy"


def method_of(attributes: Mapping[str, Any]) -> str:
    """Return the method that a predictions file is of, by its attributes: ``FEATURES+CLASSIFIER``."""
    return f"{attributes['features']}+{attributes['classifier']}"


def mean_ranks(values: Sequence[float]) -> np.ndarray:
    """Rank values, the highest of n with rank n; equal ones (within :data:`TIE`) have the mean of their ranks.

    Parameters
    ----------
    values : sequence of float, shape (n,)

    Returns
    -------
    ndarray of float64, shape (n,)

    Examples
    --------
    >>> mean_ranks([0.9, 0.7, 0.9, 0.8]).tolist()
    [3.5, 1.0, 3.5, 2.0]
    """
    values = np.asarray(values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    tied = np.concatenate([[0], np.cumsum(np.diff(values[order]) > TIE)]).astype(np.int64)[: len(values)]
    places = np.arange(1, len(values) + 1)
    ranks = np.empty(len(values))
    ranks[order] = (np.bincount(tied, weights=places) / np.bincount(tied))[tied] if len(values) else []
    return ranks


def scored(
    runs: Sequence[scoreboard.Run], *, methods: Sequence[str], split: str, path: str | Path = "scores"
) -> list[Scored]:
    """Return the tile-level scores of methods, one entry a task of a dataset, in the order of the table.

    Parameters
    ----------
    runs : sequence of Run
        All of a study's table.
    methods : sequence of str
        ``FEATURES+CLASSIFIER``.
    split : str
    path : path
        Of the table, for what an error says.

    Raises
    ------
    ValueError
        If no method or one method twice is asked for, or one has no model in the table.
    """
    twice = [name for name, times in Counter(methods).items() if times > 1]
    if not methods or twice:
        raise ValueError(f"methods to compare must be at least one, each once; found {listing(twice or methods)}")
    runs = [run for run in runs if run.split == split]
    there = {run.method for run in runs}
    absent = [method for method in methods if method not in there]
    if absent:
        raise ValueError(
            f"{path}: every method must have scores with split {split!r}; {listing(absent)} has none, "
            f"found those of {listing(sorted(there))}"
        )
    found = []
    for (dataset, task, _), of_pair in scoreboard.comparisons(runs).items():
        metric = metric_of(len(scoreboard.classes(of_pair)))
        values: dict[str, dict[str, float]] = {}
        seeds: dict[str, None] = {}
        for run in of_pair:
            if run.method not in methods:
                continue
            seeds[run.seed] = None
            estimate = run.estimates.get(("tile", metric, ""))
            if estimate is not None and estimate.value is not None:
                values.setdefault(run.method, {})[run.seed] = estimate.value
        if seeds:
            shared = tuple(seed for seed in seeds if values and all(seed in of_method for of_method in values.values()))
            others = tuple(seed for seed in seeds if seed not in shared)
            found.append(Scored(dataset, task, metric, values, shared, others))
    return found


def rank(*, scores: str, ranks: str, methods: Sequence[str], kinds: Mapping[str, str], split: str) -> None:
    """Write the average rank of each method over the tasks of all datasets, as Mormont et al. (2018) rank.

    Parameters
    ----------
    scores : path
        Table of :func:`histotransfer.evaluation.scores.collect`.
    ranks : path
        CSV to write, a row a method, the best first, equal ones in the order of `methods`: ``method``, ``kind``,
        ``untrained`` (yes where any network has random weights), ``average_rank``, then for each task of a dataset
        ``DATASET/TASK METRIC`` (the score, averaged over seeds) and ``DATASET/TASK rank``, then ``note``, the same in
        every row: what was left out, and what the average can tell.
    methods : sequence of str
        ``FEATURES+CLASSIFIER``: those that are ranked against each other.
    kinds : mapping
        Method to the kind of its classifier.
    split : str

    Raises
    ------
    ValueError
        If a method has no model in the table.

    Notes
    -----
    Tile level, ROC AUC of two classes, else accuracy. Seeds are averaged before ranking, over those in which every
    method has a score. The best of n methods has rank n (section 5.1), ties have mean ranks. A task in which a method
    has no score at all is left out of the ranks of all. ASSUME every task of every dataset counts once, as the paper
    has one task a dataset: with several tasks of one dataset, that dataset weighs more, which the note says.
    """
    runs = scoreboard.read(scores)
    pairs = scored(runs, methods=methods, split=split, path=scores)
    untrained = {run.method for run in runs if run.untrained and run.split == split}
    rows = {
        method: {"method": method, "kind": kinds[method], "untrained": "yes" if method in untrained else "no"}
        for method in methods
    }
    columns, notes, ranked = list(RANK_COLUMNS), [], []
    of_method: dict[str, list[float]] = {method: [] for method in methods}
    for pair in pairs:
        columns += [f"{pair.name} {pair.metric}", f"{pair.name} rank"]
        means = {method: pair.mean(method) for method in methods}
        for method, mean in means.items():
            rows[method][f"{pair.name} {pair.metric}"] = mean
        if None in means.values():
            absent = [method for method in methods if method not in pair.values]
            why = f"without a score: {listing(absent, 5)}" if absent else "in no seed have all methods a score"
            notes.append(f"{pair.name} is left out of the ranks: {why}")
            continue
        if pair.seeds_left_out:
            notes.append(f"{pair.name}: without {_seeds(pair.seeds_left_out)}, in which not every method has a score")
        ranked.append(pair)
        for method, place in zip(methods, mean_ranks([means[method] for method in methods]), strict=True):
            rows[method][f"{pair.name} rank"] = float(place)
            of_method[method].append(float(place))
    for method in methods:
        rows[method]["average_rank"] = mean_of(of_method[method])
    note = "; ".join([*notes, *_what_it_tells(ranked)])
    best_first = sorted(methods, key=lambda method: -(rows[method]["average_rank"] or 0.0))
    store.write_csv(ranks, [*columns, "note"], ({**rows[method], "note": note} for method in best_first))


def _seeds(seeds: Sequence[str]) -> str:
    return ("seed " if len(seeds) == 1 else "seeds ") + ", ".join(seeds)


def _what_it_tells(ranked: Sequence[Scored]) -> list[str]:
    """Return what limits the meaning of an average over these tasks."""
    tasks = Counter(pair.dataset for pair in ranked)
    if not ranked:
        return ["no ranks: there is no task in which every method has a score"]
    if len(ranked) == 1:
        return [f"the average rank is an illustration: it is the rank in one task of one dataset, {ranked[0].name}"]
    if len(tasks) == 1:
        return [
            f"the average rank is an illustration: its {len(ranked)} tasks are of one dataset, {ranked[0].dataset}, "
            "and share their tiles"
        ]
    several = [f"{dataset} ({counted(n, 'task')})" for dataset, n in tasks.items() if n > 1]
    what = "tasks of one dataset share their tiles, and each counts in the average"
    return [f"{what}: {', '.join(several)}"] if several else []


def tabulate_strategies(
    *,
    scores: str,
    predictions: Sequence[str],
    table: str,
    strategies: Mapping[str, Sequence[str]],
    split: str,
) -> None:
    """Write, for each strategy and task, the best test score of its variants and that of the variant to be chosen.

    Parameters
    ----------
    scores : path
        Table of :func:`histotransfer.evaluation.scores.collect`.
    predictions : sequence of path
        Predictions with this split, at least those of the strategies' methods; others are passed over.
    table : path
        CSV to write, a row a strategy, dataset and task: ``metric``; ``oracle``, the highest of the variants' test
        scores, each averaged over seeds, and ``oracle_method``, whose it is (the first of equal ones); ``chosen``, the
        test score of the variant with the highest validation score, chosen for each seed anew, averaged over seeds;
        ``chosen_methods``, the variants that were chosen and how often; the number of ``variants`` that have a score
        and of ``seeds``; ``oracle_untrained`` and ``chosen_untrained``, yes where a method behind that score has a
        network with random weights; ``note``: what is missing, and why, and which validation scores are too high.
    strategies : mapping
        Name to its variants, ``FEATURES+CLASSIFIER`` each.
    split : str

    Raises
    ------
    ValueError
        If a method has no model in the table, or no predictions file of a variant to choose among was given.

    Notes
    -----
    The oracle is a maximum on the test set: it is what Mormont et al. (2018) give in Table 2, and is too optimistic,
    the more so the more variants there are. The validation score is the same metric of the tiles of the training
    groups, predicted out of fold: the mean over the folds in which it is defined, as hyperparameters are tuned. A
    network that was trained once has no such predictions: it is judged by the validation tiles of the split, and
    cannot be chosen without them. ASSUME scores of both kinds compare: they are of tiles that the model did not learn
    from, of the same training groups. A network's is a little too high where these tiles chose its epoch; that of a
    classifier on features of a trained network is, since the network saw the labels of all folds. The note names both.
    Seeds are those in which every method of all strategies has a score, so that strategies compare.
    """
    methods = list(dict.fromkeys(method for variants in strategies.values() for method in variants))
    empty = [name for name, variants in strategies.items() if not variants]
    if empty:
        raise ValueError(f"a strategy must name its methods; found none in {listing(empty)}")
    runs = scoreboard.read(scores)
    pairs = scored(runs, methods=methods, split=split, path=scores)
    untrained = {run.method for run in runs if run.untrained and run.split == split}
    choosers = {method for variants in strategies.values() if len(variants) > 1 for method in variants}
    validated = _validation_scores(predictions, choosers, split)
    rows = []
    for strategy, variants in strategies.items():
        for pair in pairs:
            common = {"strategy": strategy, "dataset": pair.dataset, "task": pair.task, "metric": pair.metric}
            rows.append({**common, **_best_and_chosen(strategy, list(variants), pair, validated, untrained)})
    store.write_csv(table, STRATEGY_COLUMNS, rows)


@dataclass(frozen=True)
class _Judged:
    """What validation says of one model: its score, None where it has none, and how it came about."""

    value: float | None
    by_validation_tiles: bool = False
    saw_labels: bool = False


def _validation_scores(
    predictions: Sequence[str], methods: set[str], split: str
) -> dict[tuple[str, str, str, str], _Judged]:
    """Return what validation says by dataset, task, method, seed."""
    found = {}
    for path in predictions:
        _, out_of_fold, said = read_predictions(path)
        if said["split"] == split and method_of(said) in methods:
            key = (said["dataset"], said["task"], method_of(said), str(said["seed"]))
            metric, kept = metric_of(len(said["classes"])), None
            if out_of_fold is None and (kept := read_validation(path)) is not None:
                value = _labelled_score(kept, metric)
            else:
                value = validation_score(out_of_fold, metric)
            found[key] = _Judged(value, kept is not None, saw_labels(said))
    return found


def saw_labels(attributes: Mapping[str, Any]) -> bool:
    """Return whether a model's features come from a network that was trained on the labels of the same tiles.

    Scores of a cross-validation inside the training data are then too high: the network has seen every fold.
    """
    return bool(attributes.get("saw_labels", False))


def _labelled_score(part: Predictions, metric: str) -> float:
    rows = np.flatnonzero(part.true != NO_LABEL)
    return metrics.overall(metric, part.true[rows].astype(np.int64), part.score[rows])


def validation_score(out_of_fold: Predictions | None, metric: str) -> float | None:
    """Return a metric of labelled tiles that were predicted out of fold, the mean over folds in which it is defined.

    Parameters
    ----------
    out_of_fold : Predictions or None
        With `fold`.
    metric : {'accuracy', 'balanced_accuracy', 'roc_auc'}

    Returns
    -------
    float or None
        NaN where no fold defines it; None without predictions.
    """
    if out_of_fold is None or out_of_fold.fold is None:
        return None
    values = []
    for fold in np.unique(out_of_fold.fold):
        rows = np.flatnonzero((out_of_fold.fold == fold) & (out_of_fold.true != NO_LABEL))
        values.append(metrics.overall(metric, out_of_fold.true[rows].astype(np.int64), out_of_fold.score[rows]))
    defined = [value for value in values if not np.isnan(value)]
    return sum(defined) / len(defined) if defined else float("nan")


def _best_and_chosen(
    strategy: str,
    variants: list[str],
    pair: Scored,
    validated: Mapping[tuple[str, str, str, str], _Judged],
    untrained: set[str],
) -> dict[str, Any]:
    means = {method: pair.mean(method) for method in variants if pair.mean(method) is not None}
    absent = [method for method in variants if method not in pair.values]
    notes = [f"without a score: {listing(absent, 5)}"] if absent else []
    if pair.seeds_left_out:
        notes.append(f"without {_seeds(pair.seeds_left_out)}, in which not every method has a score")
    row: dict[str, Any] = {"variants": len(means), "seeds": len(pair.seeds)}
    if means:
        best = max(means.values())
        row |= {"oracle": best, "oracle_method": next(name for name in means if means[name] >= best - TIE)}
        row["oracle_untrained"] = "yes" if row["oracle_method"] in untrained else "no"
        judged = _judged(strategy, list(means), pair, validated) if len(means) > 1 else {}
        notes += _about(judged)
        candidates = [
            name for name in means if name not in judged or all(one.value is not None for one in judged[name])
        ]
        chosen = [_chosen(candidates, judged, place) for place in range(len(pair.seeds))]
        if not candidates:
            notes.append("none chosen: no variant was validated")
        elif None in chosen:
            without = [seed for seed, method in zip(pair.seeds, chosen, strict=True) if method is None]
            notes.append(f"none chosen: no fold of {_seeds(without)} has all classes")
        else:
            row["chosen"] = mean_of(pair.values[name][seed] for name, seed in zip(chosen, pair.seeds, strict=True))
            row["chosen_methods"] = _how_often(chosen, variants)
            row["chosen_untrained"] = "no" if untrained.isdisjoint(chosen) else "yes"
    return {**row, "note": "; ".join(notes)}


def _judged(
    strategy: str, methods: Sequence[str], pair: Scored, validated: Mapping[tuple[str, str, str, str], _Judged]
) -> dict[str, list[_Judged]]:
    """Return what validation says of each method, seed by seed."""
    found: dict[str, list[_Judged]] = {}
    for seed in pair.seeds:
        for method in methods:
            key = (pair.dataset, pair.task, method, seed)
            if key not in validated:
                raise ValueError(
                    f"strategy {strategy!r}, {pair.name}, seed {seed}: to choose among {len(methods)} methods by "
                    f"validation takes predictions of each; found no file of {method}"
                )
            found.setdefault(method, []).append(validated[key])
    return found


def _about(judged: Mapping[str, Sequence[_Judged]]) -> list[str]:
    """Return what must be known of validation scores that a variant is chosen by."""
    without = [name for name, seeds in judged.items() if any(one.value is None for one in seeds)]
    by_tiles = [
        name for name, seeds in judged.items() if name not in without and any(one.by_validation_tiles for one in seeds)
    ]
    saw = [name for name, seeds in judged.items() if name not in without and any(one.saw_labels for one in seeds)]
    notes = []
    if without:
        notes.append(
            f"cannot be chosen, having predictions neither out of fold nor of validation tiles: {listing(without, 5)}"
        )
    if by_tiles:
        notes.append(f"judged by the validation tiles, which may have chosen its epoch: {listing(by_tiles, 5)}")
    if saw:
        notes.append(
            f"validation score too high, since the network behind the features saw the labels: {listing(saw, 5)}"
        )
    return notes


def _chosen(methods: Sequence[str], judged: Mapping[str, Sequence[_Judged]], place: int) -> str | None:
    """Return the variant with the highest validation score, the first of equal ones; None where none is defined.

    Of one variant alone nothing need be known.
    """
    if not judged:
        return methods[0]
    best, found = -np.inf, None
    for method in methods:
        value = judged[method][place].value
        if value is not None and value > best + TIE:
            best, found = value, method
    return found


def _how_often(chosen: Sequence[str], variants: Sequence[str]) -> str:
    """Return ``"a (2 of 3 seeds), b (1 of 3)"``, the most frequent first, equal ones in the order of `variants`."""
    times = Counter(chosen)
    order = sorted(times, key=lambda name: (-times[name], variants.index(name)))
    n = len(chosen)
    said = [
        f"{name} ({times[name]} of {n}{'' if place else ' seed' + 's' * (n > 1)})" for place, name in enumerate(order)
    ]
    return ", ".join(said)
