"""Heads trained on cached features, and heads put on their networks."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from typing import Any

import numpy as np

from histotransfer.backends import process
from histotransfer.definitions import Factors, LearningTables, Recipe, Split
from histotransfer.feature_kinds import Layers
from histotransfer.networks import random_weights
from histotransfer.networks.specification import NetworkSpec
from histotransfer.tables import tile_table
from histotransfer.training import results
from histotransfer.training.head import build_head
from histotransfer.training.job import THREADS, Job, TrainingFiles, TrainingSettings
from histotransfer.training.learner import Learner, predict
from histotransfer.training.network import build
from histotransfer.training.tiles import TrainingData


def train_head(
    *,
    features: Sequence[str],
    tables: LearningTables,
    files: TrainingFiles,
    feature_set: Layers,
    recipe: Recipe,
    classes: tuple[str, ...],
    split: Split,
    factors: Factors,
    settings: TrainingSettings,
) -> None:
    """Train a recipe's head on cached features of its start: the first phase alone.

    A training that was interrupted goes on from its last finished epoch and comes to the same weights.

    Parameters
    ----------
    features : sequence of path
        Manifests of the start's shards.
    tables : LearningTables
    files : TrainingFiles
        Written. The model is the head: from features, float32 (n, n_features), to probabilities.
    feature_set : Layers
        The start and its layer.
    recipe : Recipe
    classes : tuple of str
        In declared order.
    split : Split
    factors : Factors
        ``features`` is the trained network's name.
    settings : TrainingSettings

    Raises
    ------
    ValueError
        If the input is not fit to train on, the recipe trains nothing, the loss is not finite, memory runs out, or the
        checkpoint is of another training (:meth:`Job.read`, :class:`histotransfer.training.epochs.Training`).
    OSError
        If a file cannot be read or written.
    """
    job = Job(factors, recipe, classes, split, tables, files, settings)
    data = TrainingData.one_by_one(*job.read(features, feature_set))
    job.begin(data)
    learner, model = _features_learner(job, data)
    checkpoint = job.checkpoint(
        data, trained="the head, on features", made_of=("tiles_digests", "weights_sha256", "layer")
    )
    outcome = job.run(learner, data, checkpoint, phases=[0])
    job.write(
        data, outcome, logits_of=partial(predict, learner, batch=recipe.batch), attributes=_attributes(job, data.table)
    )
    results.save_network(files.model, model)
    job.end(checkpoint)


def _features_learner(job: Job, data: TrainingData) -> tuple[Learner, Any]:
    """Return a head that learns on features, and its model from features to probabilities."""
    import keras

    head = build_head(job.recipe.head, len(job.classes), dimensions=2, dropout_seed=job.seed_of("dropout"))
    table = data.table
    features = keras.Input((table.n_features,), name="features")
    logits = head(features)
    trained = keras.Model(features, logits)
    model = keras.Model(features, head.probability(logits), name="head")
    random_weights.draw_weights(head.layers, seed=job.seed_of("head"), initialisation=job.recipe.initialisation)
    # in memory: one row a tile, as for the classifiers
    used = np.unique(np.concatenate([*data.tiles.values(), np.flatnonzero(table.set != "train")]))
    read = partial(_batches, table.matrix.read(table.place[used]), used)
    return Learner(trained=trained, evaluated=trained, groups={"head": head.layers}, read=read), model


def _batches(
    matrix: np.ndarray, used: np.ndarray, rows: np.ndarray, batch: int, generator: np.random.Generator | None
) -> Generator[np.ndarray, None, None]:
    """Yield rows of a matrix of the tiles `used`, ascending, as :attr:`Learner.read` does."""
    places = np.searchsorted(used, rows)
    for start in range(0, len(places), batch):
        yield matrix[places[start : start + batch]]


def _attributes(job: Job, table: tile_table.TileIndex) -> dict[str, Any]:
    name, of_start = job.factors.features, table.attributes
    untrained = bool(of_start.get("untrained", False))
    return {
        "network": name,
        "start": str(of_start.get("network", "")),
        "weights": "trained from scratch" if untrained else f"trained from {of_start.get('weights', '')}",
        "untrained": untrained,
        "columns": [[name, columns.layer, columns.stop - columns.start] for columns in table.columns],
        "n_features": table.n_features,
        "n_selected": table.n_features,
    }


def attach(
    *,
    head: str,
    head_predictions: str,
    head_history: str,
    head_curve: str,
    weights_file: str | Sequence[str] | None,
    files: TrainingFiles,
    start: NetworkSpec,
    start_name: str,
    recipe: Recipe,
    classes: tuple[str, ...],
    master_seed: int,
) -> None:
    """Put a head that was trained on features on its start, and pass its other results on.

    Parameters
    ----------
    head, head_predictions, head_history, head_curve : path
        What :func:`train_head` wrote.
    weights_file : path, list of path or None
        The start's, where the config gives a path.
    files : TrainingFiles
        Written. The model is from uint8 tiles (n, px, px, 3) to probabilities; the others are copies.
    start : NetworkSpec
    start_name : str
    recipe : Recipe
    classes : tuple of str
    master_seed : int

    Raises
    ------
    ValueError
        If the head is refused or does not fit.
    OSError
        If a file cannot be read or written.
    """
    process.set_threads(THREADS)
    network = build(
        start=start,
        start_name=start_name,
        recipe=recipe,
        n_classes=len(classes),
        weights_file=weights_file,
        master_seed=master_seed,
        head=head,
    )
    results.save_network(files.model, network.model)
    copies = ((head_predictions, files.predictions), (head_history, files.history), (head_curve, files.curve))
    for source, target in copies:
        results.copy(source, target)
