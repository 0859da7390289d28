"""What selections keep, and whether the features kept for one dataset are those kept for another.

Mormont et al. (2018), section 5.3, give both overlaps: how far down the lists of plain importances one must go to find
a feature that every dataset has (their supplementary table 3), and what pairs of eliminated subsets have in common
(their supplementary table 10). Every task of a dataset counts by itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from histotransfer import store
from histotransfer.classifiers.cross_validation import MEAN
from histotransfer.classifiers.subsets import Subsets, read_subsets
from histotransfer.definitions import Factors

PAIR_COLUMNS = (
    *("features", "seed", "first", "second", "size_first", "size_second"),
    *("common", "jaccard", "share_of_smaller", "expected_common"),
)
COMMON_COLUMNS = ("features", "seed", "datasets", "k", "share")
KEPT_COLUMNS = ("features", "dataset", "task", "seed", "n_features", "k_min", "share", "best_score", "score", "note")
CURVE_COLUMNS = ("dataset", "task", "size", "share", "score", "seeds", "kept")


def tabulate(*, subsets: Sequence[str], runs: Sequence[Factors], pairs: str, common: str, kept: str) -> None:
    """Tabulate what is kept for each dataset and task, and what they have in common.

    Parameters
    ----------
    subsets : sequence of path
        ``subsets.h5`` of one split.
    runs : sequence of Factors
        Of each.
    pairs : path
        CSV, a row per feature set, seed and pair of ``dataset/task``: sizes of the subsets kept, how many features are
        ``common`` to both, ``jaccard`` (common to both of all in either), ``share_of_smaller`` (of the smaller subset),
        and how many in common are expected by chance: n1 n2 / n of two random subsets of n features.
    common : path
        CSV, a row per feature set and seed with two datasets or more (tasks of one count by themselves): how many
        ``datasets``, the smallest ``k`` such that some feature is among the k most important ones of every one of
        them, and its share of the features.
    kept : path
        CSV, a row per selection: ``k_min``, its share of the features, its score and the best score of any subset;
        ``note``: what the selection has to say about itself.

    Raises
    ------
    ValueError
        If selections of one feature set are of different features.
    """
    selections: dict[tuple[str, int], list[tuple[str, Subsets]]] = {}
    kept_rows, columns = [], {}
    for path, run in zip(subsets, runs, strict=True):
        own = read_subsets(path)
        expected = columns.setdefault(run.features, own.attributes["columns"])
        if own.attributes["columns"] != expected:
            raise ValueError(
                f"{path}: overlaps are those of the same features, {expected}; found {own.attributes['columns']}"
            )
        selections.setdefault((run.features, run.seed), []).append((f"{run.dataset}/{run.task}", own))
        notice = own.attributes["notice"]
        which = f"{run.features}, {run.dataset}/{run.task}, seed {run.seed}"
        kept_rows.append(
            {
                **{name: getattr(run, name) for name in ("features", "dataset", "task", "seed")},
                "n_features": len(own.order),
                "k_min": own.k_min,
                "share": own.k_min / len(own.order),
                "best_score": float(np.nanmax(own.scores)),
                "score": float(own.scores[own.sizes == own.k_min][0]),
                "note": f"{which}: {notice}" if notice else "",
            }
        )
    pair_rows, common_rows = [], []
    for (features, seed), named in selections.items():
        said = {"features": features, "seed": seed}
        for (first, one), (second, other) in itertools.combinations(named, 2):
            pair_rows.append({**said, "first": first, "second": second, **_overlap(one, other)})
        if len(named) > 1:
            k = smallest_common_top([own.importance for _, own in named])
            n = len(named[0][1].order)
            common_rows.append({**said, "datasets": len(named), "k": k, "share": k / n})
    store.write_csv(pairs, PAIR_COLUMNS, pair_rows)
    store.write_csv(common, COMMON_COLUMNS, common_rows)
    store.write_csv(kept, KEPT_COLUMNS, kept_rows)


def smallest_common_top(importances: Sequence[np.ndarray]) -> int:
    """Return the smallest k such that one feature is among the k most important ones of every dataset.

    Parameters
    ----------
    importances : sequence of ndarray, shape (n_features,)
        Of equal importances the earlier column comes first.
    """
    places = []
    for importance in importances:
        place = np.empty(len(importance), dtype=np.int64)
        place[np.argsort(-importance, kind="stable")] = np.arange(1, len(importance) + 1)
        places.append(place)
    return int(np.max(places, axis=0).min())


def curve(*, curves: Sequence[str], runs: Sequence[Factors], table: str) -> None:
    """Average the elimination curves of a feature set over seeds.

    Parameters
    ----------
    curves : sequence of path
        ``curve.tsv`` of each dataset, task and seed.
    runs : sequence of Factors
        Of each.
    table : path
        CSV, a row per dataset, task and size: its ``share`` of the features, the mean ``score`` over those ``seeds``
        whose elimination came by this size (an adaptive one comes by sizes of its own) and has a score there, and in
        how many seeds the size is ``kept``.
    """
    scores: dict[tuple[str, str], dict[int, list[float]]] = {}
    kept: dict[tuple[str, str, int], int] = {}
    for path, run in zip(curves, runs, strict=True):
        task = (run.dataset, run.task)
        for row in store.read_table(path):
            if row["fold"] == MEAN:
                size = int(row["size"])
                of_size = scores.setdefault(task, {}).setdefault(size, [])
                of_size += [float(row["score"])] if row["score"] else []
                kept[*task, size] = kept.get((*task, size), 0) + (row["kept"] == "yes")
    rows = []
    for task, by_size in scores.items():
        for size in sorted(by_size):
            of_size = by_size[size]
            row = {"dataset": task[0], "task": task[1], "size": size, "share": size / max(by_size)}
            row |= {"score": float(np.mean(of_size)) if of_size else None, "seeds": len(of_size)}
            rows.append(row | {"kept": kept[*task, size]})
    store.write_csv(table, CURVE_COLUMNS, rows)


def _overlap(one: Subsets, other: Subsets) -> dict[str, Any]:
    first, second = set(one.chosen().tolist()), set(other.chosen().tolist())
    both = len(first & second)
    return {
        "size_first": len(first),
        "size_second": len(second),
        "common": both,
        "jaccard": both / len(first | second),
        "share_of_smaller": both / min(len(first), len(second)),
        "expected_common": len(first) * len(second) / len(one.order),
    }
