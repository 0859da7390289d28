"""Networks trained on tiles."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from histotransfer import provenance, seeds
from histotransfer.backends import process
from histotransfer.networks import specification, weights
from histotransfer.networks.groups import HEAD
from histotransfer.tables import tile_pixels, tile_table
from histotransfer.training import augmentation, checkpoints, epochs, optimisation, results
from histotransfer.training.head import THREADS
from histotransfer.training.network import Network, build

log = logging.getLogger("histotransfer")

#: Tiles read together when the training tiles' means are taken.
_BLOCK = 64


def channel_means(tiles: tile_pixels.TilePixels, rows: np.ndarray) -> list[float]:
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
    for _, block in tile_pixels.stream(tiles, np.sort(rows), _BLOCK):
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
    arithmetic_threads: int = THREADS,
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
    spec = specification.specification(start)
    phases = [number for number, phase in enumerate(recipe["phases"]) if phase["on"] == "tiles"]
    names = [*spec.group_names, HEAD]
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
    rows = results.rows_of_sets(
        table, split, split_seed=split_seed, master_seed=master_seed, sampling=recipe.get("sampling", "all")
    )
    results.check_sets(table, rows, split_file)
    # what is wrong with the tiles is said before a network is built
    epochs.check_tiles(labels=table.label, rows=rows, recipe=recipe, classes=classes)
    process.set_threads(arithmetic_threads)
    process.set_deterministic()
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
        phases=phases,
        classes=classes,
        generator_of=partial(seeds.generator, master_seed, "training", *factors),
        checkpoint=checkpoint,
        history=results.read_history(_beside(head_file, "history.tsv")) if head_file else (),
        curve=results.read_curve(_beside(head_file, "curve.tsv")) if head_file else (),
    )
    untrained = spec.untrained and _keeps_random_layers(network, factors_of)
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
            "start": start_name,
            "weights": _in_words(spec, untrained),
            "untrained": untrained,
            "columns": [[network_name, spec.layer, network.n_features]],
            "n_features": network.n_features,
            "n_selected": network.n_features,
        },
    )
    results.write_history(history, outcome)
    results.write_curve(curve, outcome)
    results.save_network(model, network.model)
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
    for _, block in tile_pixels.stream(table.matrix, table.place[rows], batch, crops=crops):
        yield block


def _draw(
    varied: Mapping[str, Any] | None, px_stored: int, px: int, n: int, generator: np.random.Generator
) -> dict[str, np.ndarray]:
    return augmentation.draw(varied, n=n, px_stored=px_stored, px=px, generator=generator)


def _keeps_random_layers(network: Network, factors_of: Sequence[Mapping[str, float]]) -> bool:
    trained = set().union(*factors_of)
    return any(group not in trained and any(layer.weights for layer in own) for group, own in network.groups.items())


def _in_words(spec: specification.NetworkSpec, untrained: bool) -> str:
    if spec.untrained:
        return "random, and trained in part" if untrained else "trained from scratch"
    return f"trained from {spec.weights if spec.weights == 'imagenet' else Path(spec.weights).name}"


def _only(files: str | Sequence[str]) -> str | None:
    if isinstance(files, str):
        return files or None
    return files[0] if files else None


def _beside(path: str, name: str) -> str:
    return str(Path(path).with_name(name))
