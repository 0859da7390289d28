"""Which network, or which layer, the information comes from: importances of merged features, by source.

Figure 5 of Mormont et al. (2018): the share of all importance that the features of each network bring, split by how
important the features are, beside the network's share of the features.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier

from histotransfer import store
from histotransfer.classifiers import fitting
from histotransfer.definitions import Factors
from histotransfer.evaluation.compared_tables import PARTS
from histotransfer.predictions import read_predictions

COLUMNS = ("source", "features", "feature_share", *(f"importance_{part}" for part in PARTS), "untrained")


def share(*, models: Sequence[str], predictions: Sequence[str], runs: Sequence[Factors], table: str) -> None:
    """Share out the importances of forests on merged features among their sources, and average over forests.

    Parameters
    ----------
    models, predictions : sequence of path
        ``model.skops`` of ExtraTrees, and ``predictions.h5`` beside each.
    runs : sequence of Factors
        Of each, for messages.
    table : path
        CSV, a row per source in declared order (layers by depth): ``features``, its number of features and
        ``feature_share``, their share of all; ``importance_10``: the sum of importances of those of its features that
        are among the most important ones of all sources which together bring 10 %; and so on up to 100. ``untrained``:
        whether any network of the set has random weights.

    Raises
    ------
    ValueError
        If a model is no forest of ExtraTrees, or the models are of different features.
    """
    shares, columns, untrained = [], None, False
    for model, predicted, run in zip(models, predictions, runs, strict=True):
        which = f"{model} ({run.dataset}/{run.task}, seed {run.seed})"
        attributes = read_predictions(predicted)[2]
        own = json.loads(attributes["columns"])
        columns = own if columns is None else columns
        if own != columns:
            raise ValueError(f"{which}: importances are averaged over the same features, {columns}; found {own}")
        untrained = untrained or bool(attributes["untrained"])
        loaded = fitting.load_model(model)
        if not isinstance(loaded.estimator, ExtraTreesClassifier):
            raise ValueError(f"{which}: importances are those of ExtraTrees; found {type(loaded.estimator).__name__}")
        importance = np.zeros(sum(n for _, _, n in columns))
        importance[slice(None) if loaded.columns is None else loaded.columns] = loaded.estimator.feature_importances_
        shares.append(shares_of_sources(importance, [n for _, _, n in columns]))
    rows = []
    if shares:
        mean = np.mean(shares, axis=0)
        total = sum(n for _, _, n in columns)
        for name, (_, _, n), values in zip(_names(columns), columns, mean.tolist(), strict=True):
            row = {"source": name, "features": n, "feature_share": n / total, "untrained": "yes" if untrained else "no"}
            rows.append(row | {f"importance_{part}": value for part, value in zip(PARTS, values, strict=True)})
    store.write_csv(table, COLUMNS, rows)


def shares_of_sources(importance: np.ndarray, widths: Sequence[int]) -> np.ndarray:
    """Return how much importance each source has among the most important features of all.

    Parameters
    ----------
    importance : ndarray of float64, shape (n_features,)
        Sources side by side. Sums to 1, or to 0 where no tree has a node.
    widths : sequence of int
        Features of each source.

    Returns
    -------
    ndarray of float64, shape (n_sources, 4)
        For each of :data:`PARTS`. ASSUME the feature that makes the part full counts in it as a whole, so that a part
        holds a little more than its percentage, and a source is never credited with a piece of a feature.
    """
    order = np.argsort(-importance, kind="stable")
    held = np.cumsum(importance[order])
    source = np.repeat(np.arange(len(widths)), widths)
    found = np.zeros((len(widths), len(PARTS)))
    for k, part in enumerate(PARTS):
        # equal up to the last bits of a sum counts as full
        n = int(np.searchsorted(held, held[-1] * part / 100 - 1e-12)) + 1
        found[:, k] = np.bincount(source[order[:n]], weights=importance[order[:n]], minlength=len(widths))
    return found


def _names(columns: Sequence[Sequence[Any]]) -> list[str]:
    """Return names of the sources: of networks, of layers of one network, or of both."""
    networks, layers = [network for network, _, _ in columns], [str(layer) for _, layer, _ in columns]
    if len(set(networks)) == len(columns):
        return networks
    if len(set(networks)) == 1:
        return layers
    return [f"{network} {layer}" for network, layer in zip(networks, layers, strict=True)]
