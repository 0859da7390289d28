"""Networks trained on tiles."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from histotransfer import provenance
from histotransfer.definitions import Augmentation, Factors, LearningTables, Recipe, Split
from histotransfer.feature_kinds import StoredTiles, TileSize
from histotransfer.networks import weights
from histotransfer.networks.groups import HEAD
from histotransfer.networks.specification import NetworkSpec
from histotransfer.plain_data import plain
from histotransfer.tables import tile_pixels
from histotransfer.training import augmentation, optimisation, results
from histotransfer.training.job import Job, TrainingFiles, TrainingSettings
from histotransfer.training.learner import Learner, predict
from histotransfer.training.network import Network, build
from histotransfer.training.tiles import TrainingData

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
    tables: LearningTables,
    files: TrainingFiles,
    start: NetworkSpec,
    start_name: str,
    recipe: Recipe,
    classes: tuple[str, ...],
    split: Split,
    factors: Factors,
    settings: TrainingSettings,
) -> None:
    """Train a network on tiles, as its recipe says, and predict the tiles that were held out.

    A training that was interrupted goes on from its last finished epoch and comes to the same weights.

    Parameters
    ----------
    pixels : sequence of path
        Pixel files of the dataset, at the recipe's ``crop_from`` or the start's input size.
    head : path, or empty
        ``head.keras`` of :func:`histotransfer.training.head_on_features.train_head` where the first phase is on
        features, with its ``history.tsv`` and ``curve.tsv`` in the same folder.
    weights_file : path, list of path or None
        The start's, where the config gives a path.
    tables : LearningTables
    files : TrainingFiles
        Written. The model is from tiles, uint8 (n, px, px, 3), to probabilities.
    start : NetworkSpec
    start_name : str
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
        If the input is not fit to train on, the recipe or the head do not fit, the loss is not finite, memory runs out,
        or the checkpoint is of another training (:meth:`Job.read`, :class:`histotransfer.training.epochs.Training`).
    OSError
        If a file cannot be read or written, or weights cannot be had.
    """
    job = Job(factors, recipe, classes, split, tables, files, settings)
    trained_groups = _trained_groups(start, recipe)
    phases = [number for number, phase in enumerate(recipe.phases) if phase.on == "tiles"]
    head_file = _head_file(head, recipe, needed=len(phases) < len(recipe.phases))
    data = TrainingData.one_by_one(*job.read(pixels, StoredTiles(TileSize(recipe.crop_from or start.px))))
    job.begin(data)
    table = data.table
    network = build(
        start=start,
        start_name=start_name,
        recipe=recipe,
        n_classes=len(classes),
        weights_file=weights_file,
        master_seed=settings.master_seed,
        stream=job.stream,
        head=head_file,
        means=channel_means(table.matrix, table.place[data.tiles["train"]]) if start.needs_means else None,
    )
    checkpoint = job.checkpoint(
        data,
        trained="the network, on tiles",
        made_of=("tiles_digests", "px"),
        start=plain(start),
        weights=weights.file_of(start, weights_file)[1],
        head=provenance.file_sha256(head_file) if head_file else "",
    )
    learner = _tiles_learner(network, data, recipe.augmentation)
    outcome = job.run(learner, data, checkpoint, phases=phases, **_history_of_head(head_file))
    untrained = start.untrained and _keeps_random_layers(network, trained_groups)
    job.write(
        data,
        outcome,
        logits_of=partial(predict, learner, batch=recipe.batch),
        attributes={
            "network": factors.features,
            "start": start_name,
            "weights": _weights_in_words(start, untrained),
            "untrained": untrained,
            "columns": [[factors.features, start.layer, network.n_features]],
            "n_features": network.n_features,
            "n_selected": network.n_features,
        },
    )
    results.save_network(files.model, network.model)
    job.end(checkpoint)


def _trained_groups(start: NetworkSpec, recipe: Recipe) -> set[str]:
    """Return the groups of layers that any phase of a recipe trains; a phase that trains nothing is an error."""
    names = [*start.group_names, HEAD]
    return set().union(*(optimisation.group_factors(names, phase) for phase in recipe.phases))


def _head_file(head: str | Sequence[str], recipe: Recipe, *, needed: bool) -> str | None:
    """Return the file of the head that training begins with, None where there is none."""
    file = head if isinstance(head, str) else "".join(head[:1])
    if needed != bool(file):
        raise ValueError(
            f"recipes.{recipe.name}: a head that was trained on features comes with a first phase on features, and "
            f"with no other; found {file or 'none'}"
        )
    return file or None


def _history_of_head(head: str | None) -> dict[str, list[dict[str, Any]]]:
    """Return history and learning curve of the phase on features, which lie beside its head."""
    if head is None:
        return {}
    folder = Path(head).parent
    return {
        "history": results.read_history(str(folder / "history.tsv")),
        "curve": results.read_curve(str(folder / "curve.tsv")),
    }


def _tiles_learner(network: Network, data: TrainingData, varied: Augmentation | None) -> Learner:
    table = data.table

    def read(rows: np.ndarray, batch: int, generator: np.random.Generator | None) -> Generator[np.ndarray, None, None]:
        crops = None if generator is None else augmentation.draw_crops(varied, n=len(rows), generator=generator)
        for _, block in tile_pixels.stream(table.matrix, table.place[rows], batch, crops=crops):
            yield block

    def draw(n: int, generator: np.random.Generator) -> dict[str, np.ndarray]:
        return augmentation.draw(varied, n=n, px_stored=table.matrix.px, px=network.start.px, generator=generator)

    return Learner(
        trained=network.trained,
        evaluated=network.evaluated,
        groups=network.groups,
        read=read,
        draw=draw,
        prepare=network.prepare,
    )


def _keeps_random_layers(network: Network, trained: set[str]) -> bool:
    """Return whether a group with weights is trained in no phase."""
    return any(
        group not in trained and any(layer.weights for layer in layers) for group, layers in network.groups.items()
    )


def _weights_in_words(start: NetworkSpec, untrained: bool) -> str:
    if start.untrained:
        return "random, and trained in part" if untrained else "trained from scratch"
    return f"trained from {start.weights if start.weights == 'imagenet' else Path(start.weights).name}"
