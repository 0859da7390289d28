"""Heads: what is put on a network's layer, and how it is trained on cached features without a network or a pixel."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from histotransfer import (
    backends,
    checkpoints,
    epochs,
    networks,
    seeds,
    tile_table,
    training_results,
)

log = logging.getLogger("histotransfer")

#: Threads that arithmetic is spread over, whatever a job is given: another number adds in another order, and training
#: soon comes to other weights (seen after 12 steps of MobileNetV2), so the same study would differ between computers.
# ASSUME 2, which every computer has; a training that needs more has a GPU, where this number does not matter
THREADS = 2


@dataclass(frozen=True)
class Head:
    """The layers of a head, built.

    Attributes
    ----------
    layers : list of keras.Layer
        From the pooling to ``logits``, in order; without the pooling for a head on features.
    probability : keras.Layer
        The softmax.
    auxiliary : list of keras.Layer
        The output layers of a network's auxiliary outputs.
    """

    layers: list[Any]
    probability: Any
    auxiliary: list[Any]

    @property
    def all(self) -> list[Any]:
        """Every layer, in the order in which weights are drawn."""
        return [*self.layers, self.probability, *self.auxiliary]

    def __call__(self, x: Any) -> Any:
        """Return the logits, symbolic, float32."""
        for layer in self.layers:
            x = layer(x)
        return x


def build_head(
    recipe: Mapping[str, Any],
    n_classes: int,
    *,
    dimensions: int,
    n_auxiliary: int = 0,
    dropout_seed: int = 0,
) -> Head:
    """Return the layers of a recipe's head; they have no weights until they are called.

    Parameters
    ----------
    recipe : mapping
        ``head``: ``pool`` (of maps: ``average`` or ``flatten``), ``dense`` (widths), ``activation``, ``dropout``
        (before each dense layer, that of the output too).
    n_classes : int
    dimensions : int
        4 where the head stands on maps, 2 where on features.
    n_auxiliary : int
        Auxiliary outputs of the network, each of which gets an output layer.
    dropout_seed : int

    Returns
    -------
    Head
        Dense layers are ``head_1``, ``head_2``, ..., ``logits`` and ``auxiliary_1``, ...; all in float32, whatever the
        precision of the network below.
    """
    import keras

    wanted = recipe["head"]
    layers: list[Any] = []
    if dimensions == 4 and wanted["pool"] == "average":
        layers.append(keras.layers.GlobalAveragePooling2D(name="pool", dtype="float32"))
    elif dimensions == 4:
        layers.append(keras.layers.Flatten(name="pool", dtype="float32"))
    sizes = [*wanted["dense"], n_classes]
    for number, width in enumerate(sizes, start=1):
        if wanted["dropout"]:
            seed = dropout_seed + number
            layers.append(keras.layers.Dropout(wanted["dropout"], seed=seed, name=f"dropout_{number}", dtype="float32"))
        last = number == len(sizes)
        layers.append(
            keras.layers.Dense(
                width,
                activation=None if last else wanted["activation"],
                name="logits" if last else f"head_{number}",
                dtype="float32",
            )
        )
    return Head(
        layers=layers,
        probability=keras.layers.Softmax(name="probability", dtype="float32"),
        auxiliary=[
            keras.layers.Dense(n_classes, name=f"auxiliary_{number}", dtype="float32")
            for number in range(1, n_auxiliary + 1)
        ],
    )


def load_head(head: Head, path: str) -> None:
    """Give a head the weights of one that was trained on features.

    Parameters
    ----------
    head : Head
        Built.
    path : path
        A ``head.keras`` of :func:`train_head`.

    Raises
    ------
    ValueError
        If the file is refused, or has other layers: the file and the layer are named.
    """
    found = {layer.name: layer for layer in networks.load_trained(path).layers if layer.weights}
    own = {layer.name: layer for layer in head.layers if layer.weights}
    if list(found) != list(own):
        raise ValueError(f"head {path}: its layers must be {', '.join(own)}; found {', '.join(found)}")
    for name, layer in own.items():
        shapes = [[tuple(weight.shape) for weight in one.weights] for one in (layer, found[name])]
        if shapes[0] != shapes[1]:
            raise ValueError(f"head {path}: the weights of {name} must have the shapes {shapes[0]}; found {shapes[1]}")
        layer.set_weights(found[name].get_weights())


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
    rows = training_results.rows_of_sets(
        table, split, split_seed=split_seed, master_seed=master_seed, sampling=recipe.get("sampling", "all")
    )
    training_results.check_sets(table, rows, split_file)
    backends.set_threads(arithmetic_threads)
    backends.set_deterministic()
    import keras

    factors = (dataset, task, split_name, split_seed, network_name)
    seed_of = partial(seeds.integer, master_seed, "training", *factors)
    built = build_head(recipe, len(classes), dimensions=2, dropout_seed=seed_of("dropout"))
    given = keras.Input((table.n_features,), name="features")
    logits = built(given)
    trained = keras.Model(given, logits)
    model = keras.Model(given, built.probability(logits), name="head")
    networks.draw_weights(built.layers, seed=seed_of("head"), initialisation=recipe["initialisation"])

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
            "backend": backends.name(),
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
    training_results.write_network_predictions(
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
    training_results.write_history(history, outcome)
    training_results.write_curve(curve, outcome)
    training_results.save_network(head, model)
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
    from histotransfer import training

    backends.set_threads(THREADS)
    network = training.build(
        start=start,
        start_name=start_name,
        recipe=recipe,
        classes=classes,
        weights_file=weights_file,
        master_seed=master_seed,
        factors=(),
        head=head,
    )
    training_results.save_network(model, network.model)
    for source, target in ((head_predictions, predictions), (head_history, history), (head_curve, curve)):
        training_results.copy(source, target)
