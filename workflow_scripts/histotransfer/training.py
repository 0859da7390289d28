"""Networks that are trained: from a start and a recipe to a model of its own, its predictions and its history.

The network is built of three parts: image layers (the centre of a stored tile, then the start's own preprocessing),
the trunk (the start up to its layer), and the head. In training the image layers make way for the augmentation, which
is part of the compiled step.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from histotransfer import (
    augmentation,
    backends,
    checkpoints,
    epochs,
    heads,
    networks,
    optimisation,
    provenance,
    seeds,
    tile_stream,
    tile_table,
    training_results,
    weights,
)
from histotransfer.recipes import HEAD

log = logging.getLogger("histotransfer")

#: Share that the moving statistics of batch normalisation keep at each step, where a recipe does not say.
# ASSUME 0.9, as PyTorch has it, for every network. Those of keras.applications have 0.99, MobileNetV2 even 0.999, meant
# for hundreds of thousands of steps: after 300 steps three quarters of a statistic were still that of the start, and a
# network that has learnt would be tested with the statistics of one that has not
STATISTICS_MOMENTUM = 0.9
#: Tiles read together when the training tiles' means are taken.
_BLOCK = 64


@dataclass(frozen=True)
class Network:
    """A network to be trained.

    Attributes
    ----------
    spec : networks.NetworkSpec
        Of the start.
    trained : keras.Model
        From preprocessed tiles, float32 (n, px, px, 3), to the logits and those of auxiliary outputs.
    evaluated : keras.Model
        From stored tiles, uint8 (n, px_stored, px_stored, 3), to the logits.
    model : keras.Model
        From stored tiles to probabilities: what is saved.
    groups : dict of str to list of keras.Layer
        By depth, the head last.
    n_features : int
        Values that the head takes.
    prepare : callable
        See :class:`epochs.Learner`.
    """

    spec: networks.NetworkSpec
    trained: Any
    evaluated: Any
    model: Any
    groups: dict[str, list[Any]]
    n_features: int
    prepare: Callable[[Any, Mapping[str, Any]], Any]


def build(
    *,
    start: Mapping[str, Any],
    start_name: str,
    recipe: Mapping[str, Any],
    classes: Sequence[str],
    weights_file: str | Sequence[str] | None,
    master_seed: int,
    factors: Sequence[object],
    head: str | None = None,
    means: Sequence[float] | None = None,
) -> Network:
    """Build a network with the weights that training begins with.

    Parameters
    ----------
    start : mapping
        As :func:`networks.specification` takes it.
    start_name : str
        Its name among ``networks``.
    recipe : mapping
        See :mod:`recipes`.
    classes : sequence of str
    weights_file : path, list of path or None
        The start's, where the config gives a path.
    master_seed : int
    factors : sequence
        What tells this training from others.
    head : path, optional
        A head that was trained on features of the start.
    means : sequence of 3 floats, optional
        Of the training tiles, where the start's ``rescale`` is ``training_mean``.

    Returns
    -------
    Network

    Raises
    ------
    ValueError
        If the start, its weights or the head do not fit.
    """
    import keras

    spec = networks.specification(start)
    seed_of = partial(seeds.integer, master_seed, "training", *factors)
    path, _ = weights.file_of(spec, weights_file)
    on_features = recipe["phases"][0]["on"] == "features"
    # a head that was trained on features of a random start needs that very start
    trunk = networks.trunk(
        spec,
        weights_file=path,
        seed=seeds.integer(master_seed, "weights", start_name) if on_features else seed_of("trunk"),
        precision=recipe["precision"],
        initialisation=None if on_features else recipe["initialisation"],
        auxiliary=_has_auxiliary(spec, recipe),
    )
    outputs = list(trunk.outputs)
    built = heads.build_head(
        recipe,
        len(classes),
        dimensions=len(outputs[0].shape),
        n_auxiliary=len(outputs) - 1,
        dropout_seed=seed_of("dropout"),
    )
    # the part that is saved has no auxiliary outputs
    main = keras.Model(trunk.input, outputs[0], name="trunk") if len(outputs) > 1 else trunk
    given = keras.Input((spec.px, spec.px, 3), name="preprocessed")
    first, *others = _listed(trunk(given))
    logits = built(first)
    auxiliary = [layer(other) for layer, other in zip(built.auxiliary, others, strict=True)]
    px_stored = recipe["crop_from"] or spec.px
    tiles = keras.Input((px_stored, px_stored, 3), dtype="uint8", name="tiles")
    evaluated = built(main(networks.image_layers(spec, px_stored=px_stored, means=means)(tiles)))
    model = keras.Model(tiles, built.probability(evaluated), name="network")
    networks.draw_weights(
        [*built.layers, *built.auxiliary], seed=seed_of("head"), initialisation=recipe["initialisation"]
    )
    if head:
        heads.load_head(built, head)
    momentum = recipe.get("statistics_momentum")
    for layer in trunk.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = STATISTICS_MOMENTUM if momentum is None else momentum
    groups = networks.groups(trunk, spec)
    groups[HEAD] = [*groups.pop(HEAD, []), *built.all]

    def prepare(stored: Any, drawn: Mapping[str, Any]) -> Any:
        return networks.preprocess(augmentation.apply(stored, drawn, px=spec.px), spec.preprocessing, means=means)

    return Network(
        spec=spec,
        trained=keras.Model(given, [logits, *auxiliary] if auxiliary else logits),
        evaluated=keras.Model(tiles, evaluated),
        model=model,
        groups=groups,
        n_features=int(next(layer for layer in built.layers if layer.weights).input.shape[-1]),
        prepare=prepare,
    )


def _has_auxiliary(spec: networks.NetworkSpec, recipe: Mapping[str, Any]) -> bool:
    """Tell whether auxiliary outputs are trained: where a recipe weighs them and the network has some."""
    names = spec.architecture.layers
    below = [cut for cut, _ in spec.architecture.auxiliary if names.index(cut) <= names.index(spec.layer)]
    return bool(recipe["auxiliary"] and below)


def channel_means(tiles: tile_stream.TilePixels, rows: np.ndarray) -> list[float]:
    """Return the mean grey value of each channel over some tiles, 0 to 255.

    Parameters
    ----------
    tiles : TilePixels
    rows : ndarray of int, shape (n,)

    Returns
    -------
    list of 3 floats
        Red, green, blue. Sums are of whole numbers, so they are exact.
    """
    total = np.zeros(3, np.uint64)
    n = 0
    for _, block in tile_stream.stream(tiles, np.sort(rows), _BLOCK):
        total += block.sum(axis=(0, 1, 2), dtype=np.uint64)
        n += block[..., 0].size
    return (total / n).tolist()


def train_network(
    *,
    pixels: Sequence[str],
    head: str | Sequence[str],
    weights_file: str | Sequence[str] | None,
    labels: Sequence[str],
    slides_table: str,
    split_file: str,
    model: str,
    predictions: str,
    history: str,
    curve: str,
    network_name: str,
    start: Mapping[str, Any],
    start_name: str,
    recipe: Mapping[str, Any],
    classes: Sequence[str],
    split: Mapping[str, Any],
    dataset: str,
    task: str,
    split_name: str,
    split_seed: int,
    master_seed: int,
    resume: str,
    threads: int = 1,
    arithmetic_threads: int = heads.THREADS,
    code: str = "",
) -> None:
    """Train a network on tiles, as its recipe says, and predict the tiles that were held out.

    A training that was interrupted goes on from its last finished epoch and comes to the same weights.

    Parameters
    ----------
    pixels : sequence of path
        Pixel files of the dataset, at the recipe's ``crop_from`` or the start's input size.
    head : path, or empty
        ``head.keras`` of :func:`heads.train_head` where the first phase is on features, with its ``history.tsv`` and
        ``curve.tsv`` beside it.
    weights_file : path, list of path or None
        The start's, where the config gives a path.
    labels : sequence of path
    slides_table, split_file : path
    model, predictions, history, curve : path
        Written: ``model.keras``, uint8 tiles to probabilities, float32 (n, n_classes); ``predictions.h5``;
        ``history.tsv`` and ``curve.tsv`` (see :mod:`epochs`).
    network_name : str
        The trained network's.
    start : mapping
        As :func:`networks.specification` takes it.
    start_name : str
    recipe : mapping
        See :mod:`recipes`.
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
        What arithmetic is spread over: see :data:`heads.THREADS`.
    code : str
        Digest of the code that trains.

    Raises
    ------
    ValueError
        If the input is not fit to train on, the recipe or the head do not fit, the loss is not finite, memory runs out,
        or the checkpoint is of another training (:func:`tile_table.read`, :func:`epochs.run`).
    OSError
        If a file cannot be read or written, or weights cannot be had.
    """
    started = time.monotonic()
    spec = networks.specification(start)
    phases = [number for number, phase in enumerate(recipe["phases"]) if phase["on"] == "tiles"]
    names = [*networks.group_names(start), HEAD]
    factors_of = [optimisation.group_factors(names, phase) for phase in recipe["phases"]]
    head_file = _only(head)
    if (len(phases) < len(recipe["phases"])) != (head_file is not None):
        raise ValueError(
            f"recipes.{recipe['name']}: a head that was trained on features comes with a first phase on features, and "
            f"with no other; found {head_file or 'none'}"
        )
    table = tile_table.read(
        features=pixels,
        labels=labels,
        slides_table=slides_table,
        split_file=split_file,
        split=split,
        feature_set={"pixels": {"px": recipe["crop_from"] or spec.px}},
        classes=classes,
        master_seed=master_seed,
    )
    rows = training_results.rows_of_sets(
        table, split, split_seed=split_seed, master_seed=master_seed, sampling=recipe.get("sampling", "all")
    )
    training_results.check_sets(table, rows, split_file)
    # what is wrong with the tiles is said before a network is built
    epochs.check_tiles(labels=table.label, rows=rows, recipe=recipe, classes=classes)
    backends.set_threads(arithmetic_threads)
    backends.set_deterministic()
    factors = (dataset, task, split_name, split_seed, network_name)
    means = channel_means(table.matrix, table.place[rows["train"]]) if spec.needs_means else None
    network = build(
        start=start,
        start_name=start_name,
        recipe=recipe,
        classes=classes,
        weights_file=weights_file,
        master_seed=master_seed,
        factors=factors,
        head=head_file,
        means=means,
    )
    learner = epochs.Learner(
        trained=network.trained,
        evaluated=network.evaluated,
        groups=network.groups,
        read=partial(_read, table, recipe["augmentation"]),
        draw=partial(_draw, recipe["augmentation"], table.matrix.px, spec.px),
        prepare=network.prepare,
    )
    made_of = {name: table.attributes.get(name) for name in ("tiles_digests", "px")}
    checkpoint = checkpoints.Checkpoint(
        resume,
        {
            "network": network_name,
            "start": dict(start),
            "recipe": dict(recipe),
            "classes": list(classes),
            "trained": "the network, on tiles",
            "dataset": dataset,
            "task": task,
            "split": split_name,
            "seed": split_seed,
            "master_seed": master_seed,
            "tiles": checkpoints.digest_of_tiles([table.image, table.tile, table.label, table.set], made_of),
            "weights": weights.file_of(spec, weights_file)[1],
            "head": provenance.file_sha256(head_file) if head_file else "",
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
        phases=phases,
        classes=classes,
        generator_of=partial(seeds.generator, master_seed, "training", *factors),
        checkpoint=checkpoint,
        history=training_results.read_history(_beside(head_file, "history.tsv")) if head_file else (),
        curve=training_results.read_curve(_beside(head_file, "curve.tsv")) if head_file else (),
    )
    untrained = spec.untrained and _keeps_random_layers(network, factors_of)
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
            "start": start_name,
            "weights": _in_words(spec, untrained),
            "untrained": untrained,
            "columns": [[network_name, spec.layer, network.n_features]],
            "n_features": network.n_features,
            "n_selected": network.n_features,
        },
    )
    training_results.write_history(history, outcome)
    training_results.write_curve(curve, outcome)
    training_results.save_network(model, network.model)
    checkpoint.remove()
    log.info("%s: trained in %.1f s", network_name, time.monotonic() - started)


def _read(
    table: tile_table.TileIndex,
    varied: Mapping[str, Any] | None,
    rows: np.ndarray,
    batch: int,
    generator: np.random.Generator | None,
) -> Generator[np.ndarray, None, None]:
    crops = None if generator is None else augmentation.draw_crops(varied, n=len(rows), generator=generator)
    for _, block in tile_stream.stream(table.matrix, table.place[rows], batch, crops=crops):
        yield block


def _draw(
    varied: Mapping[str, Any] | None, px_stored: int, px: int, n: int, generator: np.random.Generator
) -> dict[str, np.ndarray]:
    return augmentation.draw(varied, n=n, px_stored=px_stored, px=px, generator=generator)


def _keeps_random_layers(network: Network, factors_of: Sequence[Mapping[str, float]]) -> bool:
    trained = set().union(*factors_of)
    return any(group not in trained and any(layer.weights for layer in own) for group, own in network.groups.items())


def _in_words(spec: networks.NetworkSpec, untrained: bool) -> str:
    if spec.untrained:
        return "random, and trained in part" if untrained else "trained from scratch"
    return f"trained from {spec.weights if spec.weights == 'imagenet' else Path(spec.weights).name}"


def _only(files: str | Sequence[str]) -> str | None:
    if isinstance(files, str):
        return files or None
    return files[0] if files else None


def _beside(path: str, name: str) -> str:
    return str(Path(path).with_name(name))


def _listed(outputs: Any) -> list[Any]:
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
