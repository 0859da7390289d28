"""Which features to keep: recursive elimination inside the training groups, by cross-validation over their folds.

Nothing here looks at a test group, nor at a tile without a label.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from histotransfer import seeds, store
from histotransfer.classifiers import elimination
from histotransfer.classifiers.cross_validation import MEAN
from histotransfer.classifiers.subsets import Subsets, write_subsets
from histotransfer.tables import tile_table

KIND = "rfe"

#: Columns of ``curve.tsv``: a row per subset and fold, and one for the mean.
CURVE_COLUMNS = ("size", "fold", "score", "pass", "kept")

#: Where a selection names none. The tolerance is that of Mormont et al. (2018), section 5.3.
DEFAULTS = {
    "step": 0.1,
    "tolerance": 0.005,
    "trees": 100,
    "max_features": "sqrt",
    "min_samples_leaf": 1,
    "metric": "accuracy",
}

#: With the score in it.
EQUAL_SCORES = "every subset of features has the same score, {:g}: the smallest is kept, and it may be far too small"


def select(
    *,
    features: Sequence[str],
    labels: Sequence[str],
    slides_table: str,
    split_file: str,
    subsets: str,
    curve: str,
    selection: Mapping[str, Any],
    feature_set: Mapping[str, Any],
    classes: Sequence[str],
    split: Mapping[str, Any],
    dataset: str,
    task: str,
    split_name: str,
    features_name: str,
    split_seed: int,
    master_seed: int,
    threads: int = 1,
) -> None:
    """Eliminate features recursively on the tiles that classifiers train on, and write all nested subsets.

    Parameters
    ----------
    features, labels : sequence of path
        Manifests of the networks' shards; label tables of the task.
    slides_table, split_file : path
        The cohort's table; groups with their sets and folds.
    subsets, curve : path
        Written: ``subsets.h5`` (:class:`subsets.Subsets`), and ``curve.tsv`` with the score of every subset in every
        fold and their mean (an empty cell where it is undefined), the pass of an adaptive elimination that the subset
        is from, and whether its size is kept.
    selection : mapping
        ``kind: rfe``, and as needed other values than :data:`DEFAULTS`: ``step``, ``tolerance`` and ``metric`` are
        those of :func:`elimination.eliminate`, the others those of :class:`elimination.Forest`.
    feature_set : mapping
        What :func:`tile_table.read` takes.
    classes : sequence of str
        In declared order.
    split : mapping
        As for :func:`classifiers.train`, with the same caps on the tiles trained on.
    dataset, task, split_name, features_name : str
        Factors of the study: what tells this use of chance from others.
    split_seed, master_seed : int
    threads : int
        Changes the time, not the result.

    Raises
    ------
    ValueError
        If the input is not fit to select on: see :func:`tile_table.read` and :func:`elimination.eliminate`.
    """
    settings = _settings(selection)
    if len(classes) < 2:
        raise ValueError(f"telling classes apart takes two or more; found {list(classes)}")
    seed = seeds.integer(master_seed, "selection", dataset, task, split_name, split_seed, features_name)
    index = tile_table.read(
        features=features,
        labels=labels,
        slides_table=slides_table,
        split_file=split_file,
        split=split,
        feature_set=feature_set,
        classes=classes,
        master_seed=master_seed,
    )
    drawn = tile_table.draw(
        index,
        tiles=split.get("train_tiles"),
        tiles_per_class=split.get("train_tiles_per_class"),
        split_seed=split_seed,
        master_seed=master_seed,
    )
    table = index.rows(drawn)
    tile_table.check_features_vary(table)
    with threadpool_limits(limits=1, user_api="blas"):
        found = elimination.eliminate(
            table.features,
            table.label.astype(np.int64),
            table.fold,
            classes=classes,
            forest=elimination.Forest(
                seed=seed,
                trees=settings["trees"],
                max_features=settings["max_features"],
                min_samples_leaf=settings["min_samples_leaf"],
            ),
            step=settings["step"],
            tolerance=settings["tolerance"],
            metric=settings["metric"],
            threads=threads,
        )
    equal = len(found.sizes) > 1 and np.ptp(found.scores) < 1e-12
    write_subsets(
        subsets,
        Subsets(
            order=found.order,
            fold_orders=found.fold_orders,
            importance=found.importance,
            sizes=found.sizes,
            scores=found.scores,
            k_min=found.k_min,
            attributes={
                "tolerance": float(settings["tolerance"]),
                "step": str(settings["step"]),
                "metric": settings["metric"],
                "trees": settings["trees"],
                "fits": found.fits,
                "columns": [[part.network, part.layer, part.start, part.stop] for part in index.columns],
                "network": str(index.attributes.get("network", "")),
                "layer": str(index.attributes.get("layer", "")),
                "features": features_name,
                "dataset": dataset,
                "task": task,
                "split": split_name,
                "seed": split_seed,
                "notice": EQUAL_SCORES.format(found.scores[0]) if equal else "",
            },
        ),
    )
    store.write_table(curve, CURVE_COLUMNS, _curve_rows(found))


def _settings(selection: Mapping[str, Any]) -> dict[str, Any]:
    if selection.get("kind") != KIND:
        raise ValueError(f"a selection's kind must be {KIND!r}; found {selection.get('kind')!r}")
    settings = {name: selection.get(name, value) for name, value in DEFAULTS.items()}
    tolerance = settings["tolerance"]
    if isinstance(tolerance, bool) or not isinstance(tolerance, (int, float)) or not 0 <= tolerance < 1:
        raise ValueError(f"the tolerance of a selection must be a score from 0 to below 1; found {tolerance!r}")
    return settings


def _curve_rows(found: elimination.Eliminated) -> Iterator[dict[str, Any]]:
    folds = sorted(found.fold_orders)
    for k, size in enumerate(found.sizes.tolist()):
        cells = [*zip(map(str, folds), found.fold_scores[k].tolist(), strict=True), (MEAN, float(found.scores[k]))]
        for fold, score in cells:
            yield {
                "size": size,
                "fold": fold,
                "score": None if np.isnan(score) else score,
                "pass": elimination.FINE if size in found.fine else elimination.COARSE,
                "kept": "yes" if size == found.k_min else "no",
            }
