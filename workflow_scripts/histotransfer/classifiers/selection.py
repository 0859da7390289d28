"""Which features to keep: recursive elimination inside the training groups, by cross-validation over their folds.

Nothing here looks at a test group, nor at a tile without a label.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from histotransfer import seeds, store
from histotransfer.classifiers import elimination
from histotransfer.classifiers.cross_validation import MEAN
from histotransfer.classifiers.subsets import Subsets, write_subsets
from histotransfer.definitions import Factors, LearningTables, Selection, Split
from histotransfer.feature_kinds import FeatureSet
from histotransfer.tables import tile_table

KIND = "rfe"

#: Columns of ``curve.tsv``: a row per subset and fold, and one for the mean.
CURVE_COLUMNS = ("size", "fold", "score", "pass", "kept")

#: With the score in it.
EQUAL_SCORES = "every subset of features has the same score, {:g}: the smallest is kept, and it may be far too small"


def select(
    *,
    features: Sequence[str],
    tables: LearningTables,
    subsets: str,
    curve: str,
    selection: Selection,
    feature_set: FeatureSet,
    classes: Sequence[str],
    split: Split,
    factors: Factors,
    master_seed: int,
    threads: int = 1,
) -> None:
    """Eliminate features recursively on the tiles that classifiers train on, and write all nested subsets.

    Parameters
    ----------
    features : sequence of path
        See :func:`histotransfer.tables.tile_table.read`.
    tables : LearningTables
    subsets, curve : path
        Written: ``subsets.h5`` (:class:`Subsets`), and ``curve.tsv`` with the score of every subset in every
        fold and their mean (an empty cell where it is undefined), the pass of an adaptive elimination that the subset
        is from, and whether its size is kept.
    selection : Selection
        ``step``, ``tolerance`` and ``metric`` are those of :func:`elimination.eliminate`, the others those of
        :class:`elimination.Forest`.
    feature_set : Layers
    classes : sequence of str
        In declared order.
    split : Split
        With the same caps on the tiles trained on as for :func:`histotransfer.classifiers.fitting.train`.
    factors : Factors
        Random numbers are drawn for them; the classifier does not matter.
    master_seed : int
    threads : int
        Changes the time, not the result.

    Raises
    ------
    ValueError
        If the input is not fit to select on: see :func:`tile_table.read` and :func:`elimination.eliminate`.
    """
    _check(selection, classes)
    index, drawn = tile_table.read_drawn(
        features=features,
        tables=tables,
        split=split,
        feature_set=feature_set,
        classes=classes,
        factors=factors,
        master_seed=master_seed,
    )
    table = index.rows(drawn)
    tile_table.check_features_vary(table)
    of_draw = (factors.dataset, factors.task, factors.split, factors.seed, factors.features)
    with threadpool_limits(limits=1, user_api="blas"):
        eliminated = elimination.eliminate(
            table.features,
            table.label.astype(np.int64),
            table.fold,
            classes=classes,
            forest=elimination.Forest(
                seed=seeds.integer(master_seed, "selection", *of_draw),
                trees=selection.trees,
                max_features=selection.max_features,
                min_samples_leaf=selection.min_samples_leaf,
            ),
            step=selection.step,
            tolerance=selection.tolerance,
            metric=selection.metric,
            threads=threads,
        )
    write_subsets(subsets, _subsets(eliminated, index, selection, factors))
    store.write_table(curve, CURVE_COLUMNS, _curve_rows(eliminated))


def _check(selection: Selection, classes: Sequence[str]) -> None:
    if selection.kind != KIND:
        raise ValueError(f"a selection's kind must be {KIND!r}; found {selection.kind!r}")
    tolerance = selection.tolerance
    if isinstance(tolerance, bool) or not isinstance(tolerance, (int, float)) or not 0 <= tolerance < 1:
        raise ValueError(f"the tolerance of a selection must be a score from 0 to below 1; found {tolerance!r}")
    if len(classes) < 2:
        raise ValueError(f"classes must be two or more; found {list(classes)}")


def _subsets(
    eliminated: elimination.Eliminated, index: tile_table.TileIndex, selection: Selection, factors: Factors
) -> Subsets:
    """Return the nested subsets of features with what they were found on."""
    equal = len(eliminated.sizes) > 1 and np.ptp(eliminated.scores) < 1e-12
    return Subsets(
        order=eliminated.order,
        fold_orders=eliminated.fold_orders,
        importance=eliminated.importance,
        sizes=eliminated.sizes,
        scores=eliminated.scores,
        k_min=eliminated.k_min,
        attributes={
            "tolerance": float(selection.tolerance),
            "step": str(selection.step),
            "metric": selection.metric,
            "trees": selection.trees,
            "fits": eliminated.fits,
            "columns": [[part.network, part.layer, part.start, part.stop] for part in index.columns],
            "network": str(index.attributes.get("network", "")),
            "layer": str(index.attributes.get("layer", "")),
            "features": factors.features,
            "dataset": factors.dataset,
            "task": factors.task,
            "split": factors.split,
            "seed": factors.seed,
            "notice": EQUAL_SCORES.format(eliminated.scores[0]) if equal else "",
        },
    )


def _curve_rows(eliminated: elimination.Eliminated) -> Iterator[dict[str, Any]]:
    folds = sorted(eliminated.fold_orders)
    for k, size in enumerate(eliminated.sizes.tolist()):
        cells = [
            *zip(map(str, folds), eliminated.fold_scores[k].tolist(), strict=True),
            (MEAN, float(eliminated.scores[k])),
        ]
        for fold, score in cells:
            yield {
                "size": size,
                "fold": fold,
                "score": None if np.isnan(score) else score,
                "pass": elimination.FINE if size in eliminated.fine else elimination.COARSE,
                "kept": "yes" if size == eliminated.k_min else "no",
            }
