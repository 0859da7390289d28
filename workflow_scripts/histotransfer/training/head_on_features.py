"""Heads trained on cached features, and heads put on their networks."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from histotransfer import seeds
from histotransfer.backends import process
from histotransfer.networks import random_weights
from histotransfer.tables import tile_table
from histotransfer.training import checkpoints, epochs, results
from histotransfer.training.head import THREADS, build_head

log = logging.getLogger("histotransfer")


def train_head(
    *,
    features: Sequence[str],
    labels: Sequence[str],
    slides_table: str,
    split_file: str,
    head: str,
    predictions: str,
    history: str,
    curve: str,
    feature_set: Mapping[str, Any],
    recipe: Mapping[str, Any],
    network_name: str,
    classes: Sequence[str],
    split: Mapping[str, Any],
    dataset: str,
    task: str,
    split_name: str,
    split_seed: int,
    master_seed: int,
    resume: str,
    threads: int = 1,
    arithmetic_threads: int = THREADS,
    code: str = "",
) -> None:
    """Train a recipe's head on cached features of its start: the first phase alone.

    Parameters
    ----------
    features : sequence of path
        Manifests of the start's shards.
    labels : sequence of path
    slides_table, split_file : path
    head, predictions, history, curve : path
        Written: ``head.keras`` from features to probabilities, float32 (n, n_features) to (n, n_classes);
        ``predictions.h5``; ``history.tsv`` and ``curve.tsv`` (see :mod:`epochs`).
    feature_set : mapping
        ``sources``: the start and its layer.
    recipe : mapping
        See :mod:`recipes`.
    network_name : str
        The trained network's.
    classes : sequence of str
        In declared order.
    split : mapping
    dataset, task, split_name : str
    split_seed, master_seed : int
    resume : path
        Folder of checkpoints.
    threads : int
        What the job may use; it changes nothing.
    arithmetic_threads : int
        What arithmetic is spread over: see :data:`THREADS`.
    code : str
        Digest of the code that trains.

    Raises
    ------
    ValueError
        If the input is not fit to train on (:func:`tile_table.read`, :func:`epochs.run`).
    """
    started = time.monotonic()
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
    rows = results.rows_of_sets(
        table, split, split_seed=split_seed, master_seed=master_seed, sampling=recipe.get("sampling", "all")
    )
    results.check_sets(table, rows, split_file)
    process.set_threads(arithmetic_threads)
    process.set_deterministic()
    import keras

    factors = (dataset, task, split_name, split_seed, network_name)
    seed_of = partial(seeds.integer, master_seed, "training", *factors)
    built = build_head(recipe, len(classes), dimensions=2, dropout_seed=seed_of("dropout"))
    given = keras.Input((table.n_features,), name="features")
    logits = built(given)
    trained = keras.Model(given, logits)
    model = keras.Model(given, built.probability(logits), name="head")
    random_weights.draw_weights(built.layers, seed=seed_of("head"), initialisation=recipe["initialisation"])

    # in memory: one row a tile, as for the classifiers
    used = np.unique(np.concatenate([*rows.values(), np.flatnonzero(table.set != "train")]))
    matrix = table.matrix.read(table.place[used])

    def read(
        chosen: np.ndarray, batch: int, generator: np.random.Generator | None
    ) -> Generator[np.ndarray, None, None]:
        places = np.searchsorted(used, chosen)
        for start in range(0, len(places), batch):
            yield matrix[places[start : start + batch]]

    learner = epochs.Learner(trained=trained, evaluated=trained, groups={"head": built.layers}, read=read)
    made_of = {name: table.attributes.get(name) for name in ("tiles_digests", "weights_sha256", "layer")}
    checkpoint = checkpoints.Checkpoint(
        resume,
        {
            "network": network_name,
            "recipe": dict(recipe),
            "classes": list(classes),
            "trained": "the head, on features",
            "dataset": dataset,
            "task": task,
            "split": split_name,
            "seed": split_seed,
            "master_seed": master_seed,
            "tiles": checkpoints.digest_of_tiles([table.image, table.tile, table.label, table.set], made_of),
            "code": code,
            "backend": process.name(),
            "arithmetic_threads": arithmetic_threads,
        },
    )
    outcome = epochs.run(
        learner,
        name=network_name,
        labels=table.label,
        rows=rows,
        recipe=recipe,
        phases=[0],
        classes=classes,
        generator_of=partial(seeds.generator, master_seed, "training", *factors),
        checkpoint=checkpoint,
    )
    said = table.attributes
    results.write_network_predictions(
        predictions,
        table=table,
        rows=rows,
        learner=learner,
        outcome=outcome,
        recipe=recipe,
        split=split,
        classes=classes,
        attributes={
            "dataset": dataset,
            "task": task,
            "split": split_name,
            "seed": split_seed,
            "features": network_name,
            "network": network_name,
            "start": str(said.get("network", "")),
            "weights": "trained from scratch" if said.get("untrained") else f"trained from {said.get('weights', '')}",
            "untrained": bool(said.get("untrained", False)),
            "columns": [[network_name, own.layer, own.stop - own.start] for own in table.columns],
            "n_features": table.n_features,
            "n_selected": table.n_features,
        },
    )
    results.write_history(history, outcome)
    results.write_curve(curve, outcome)
    results.save_network(head, model)
    checkpoint.remove()
    log.info("%s: head trained in %.1f s", network_name, time.monotonic() - started)


def attach(
    *,
    head: str,
    head_predictions: str,
    head_history: str,
    head_curve: str,
    weights_file: str | Sequence[str] | None,
    model: str,
    predictions: str,
    history: str,
    curve: str,
    start: Mapping[str, Any],
    start_name: str,
    recipe: Mapping[str, Any],
    classes: Sequence[str],
    master_seed: int,
) -> None:
    """Put a head that was trained on features on its start, and pass its other results on.

    Parameters
    ----------
    head, head_predictions, head_history, head_curve : path
        What :func:`train_head` wrote.
    weights_file : path, list of path or None
        The start's, where the config gives a path.
    model, predictions, history, curve : path
        Written: ``model.keras``, uint8 tiles to probabilities; the others are copies.
    start : mapping
        As :func:`networks.specification` takes it.
    start_name : str
    recipe : mapping
    classes : sequence of str
    master_seed : int

    Raises
    ------
    ValueError
        If the head is refused or does not fit.
    """
    from histotransfer.training.network import build

    process.set_threads(THREADS)
    network = build(
        start=start,
        start_name=start_name,
        recipe=recipe,
        classes=classes,
        weights_file=weights_file,
        master_seed=master_seed,
        factors=(),
        head=head,
    )
    results.save_network(model, network.model)
    for source, target in ((head_predictions, predictions), (head_history, history), (head_curve, curve)):
        results.copy(source, target)
