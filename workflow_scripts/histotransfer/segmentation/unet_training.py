"""Segmentation networks: a U-Net that sees the map of a whole slide, or of a piece of it, and tells each tile's class.

The map is of features of the slide's tiles, or the slide itself at low resolution (:mod:`slide_images`). Only cells of
tiles with a label are learnt from and scored; every tile is predicted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from histotransfer import seeds
from histotransfer.backends import compiled, process, protocols
from histotransfer.predictions import NO_LABEL
from histotransfer.segmentation import feature_maps, unet
from histotransfer.segmentation.cells import FeatureCells, PictureCells, batches, mean_and_deviation
from histotransfer.segmentation.maps import Maps, lay_out, write_canvases
from histotransfer.segmentation.network import Network, attach
from histotransfer.segmentation.predicting import Predictor
from histotransfer.tables import tile_table
from histotransfer.training import checkpoints, epochs, head, results

log = logging.getLogger("histotransfer")

#: What a recipe may vary of a map.
AUGMENTATIONS = ("flip", "quarter_turns")


class _MapStep:
    """A step of training on maps, which is told by labelled cells, not by maps."""

    def __init__(self, step: protocols.TrainStep) -> None:
        self._step, self._n = step, 0

    def __call__(self, inputs: np.ndarray, labels: np.ndarray, drawn: Mapping[str, np.ndarray], **of_step: Any) -> None:
        self._n += int((labels != NO_LABEL).sum())
        self._step(inputs, labels, drawn, **of_step)

    def tally(self) -> np.ndarray:
        # float64: whole numbers of cells beyond 2 ** 24
        tally = self._step.tally().astype(np.float64)
        tally[2], self._n = self._n, 0
        return tally

    def settle(self) -> None:
        self._step.settle()


def learner_of(
    network: Network,
    cells: FeatureCells | PictureCells,
    maps: Maps,
    predictor: Predictor,
    *,
    augmentation: Mapping[str, Any] | None,
) -> epochs.Learner:
    """Return a U-Net as :func:`epochs.run` trains it, with the one group ``unet``."""

    def prepare(inputs: Any, drawn: Mapping[str, Any]) -> Any:
        return network.front(inputs)

    def compile_step(*, groups: Sequence[str], **moved: Any) -> protocols.TrainStep:
        return _MapStep(compiled.compiled_train_step(network.unet, prepare=prepare, loss=unet.step_loss, **moved))

    return epochs.Learner(
        trained=network.unet,
        evaluated=network.evaluated,
        groups={unet.NAME: network.unet.layers},
        read=partial(batches, cells, maps, augmentation),
        unit="maps",
        compile_step=compile_step,
        evaluate=predictor.evaluate,
    )


def train_unet(
    *,
    features: Sequence[str],
    labels: Sequence[str],
    slides_table: str,
    split_file: str,
    model: str,
    predictions: str,
    history: str,
    curve: str,
    canvases: str,
    feature_set: Mapping[str, Any],
    classifier: Mapping[str, Any],
    recipe: Mapping[str, Any],
    canvas: Mapping[str, Any],
    features_name: str,
    classifier_name: str,
    classes: Sequence[str],
    split: Mapping[str, Any],
    dataset: str,
    task: str,
    split_name: str,
    split_seed: int,
    master_seed: int,
    resume: str,
    threads: int = 1,
    arithmetic_threads: int = head.THREADS,
    code: str = "",
) -> None:
    """Train a U-Net on maps of slides, and predict the tiles that were held out.

    A training that was interrupted goes on from its last finished epoch and comes to the same weights.

    Parameters
    ----------
    features : sequence of path
        Manifests of the networks' shards; or slide images, where `feature_set` has ``image``.
    labels : sequence of path
    slides_table, split_file : path
    model, predictions, history, curve, canvases : path
        Written: ``model.keras``, from maps (:func:`attach`) to probabilities; ``predictions.h5``; ``history.tsv`` and
        ``curve.tsv`` (see :mod:`epochs`); ``canvases.tsv``, a row a map: ``image``, ``piece``, ``tiles``, ``canvas``
        (cells) and ``cut_off``, tiles that do not fit on it.
    feature_set : mapping
        ``sources`` or ``image``: see :func:`tile_table.read`.
    classifier : mapping
        ``filters``, ``depth`` (see :func:`unet.build_unet`), and ``standardise``: whether features are standardised
        by the tiles of the maps that are trained on.
    recipe : mapping
        See :mod:`recipes`: ``batch`` is maps a step, ``augmentation`` has ``flip`` and ``quarter_turns`` alone. Its
        ``head`` and ``initialisation`` are those of other networks, and not looked at.
    canvas : mapping
        ``size`` (cells, or ``fit``) and ``per`` (``slide`` or ``piece``).
    features_name, classifier_name : str
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
        If the input is not fit to train on, the recipe, canvas and network do not fit, the loss is not finite, memory
        runs out, or the checkpoint is of another training (:func:`tile_table.read`, :func:`lay_out`,
        :func:`epochs.run`).
    OSError
        If a file cannot be read or written.
    """
    started = time.monotonic()
    check_recipe(recipe)
    name = f"{features_name}+{classifier_name}"
    picture = "image" in feature_set
    cell_px = int(feature_set["image"]["cell_px"]) if picture else 1
    multiple = unet.multiple(classifier["depth"], cell_px)
    feature_maps.check_canvas(canvas["size"], canvas["per"], multiple)
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
    maps = lay_out(table, rows, canvas=canvas, multiple=multiple)
    write_canvases(canvases, maps, name=name)
    # what is wrong with the tiles is said before a network is built
    epochs.check_tiles(labels=maps.label, rows=maps.tiles, recipe=recipe, classes=classes)
    process.set_threads(arithmetic_threads)
    process.set_deterministic()
    factors = (dataset, task, split_name, split_seed, features_name, classifier_name)
    cells = PictureCells(table) if picture else FeatureCells(table)
    mean = sd = None
    if classifier["standardise"] and not picture:
        mean, sd = mean_and_deviation(cells.values, [maps.trained[k] for k in maps.rows["train"]])
    network = attach(
        unet.build_unet(
            n_features=table.n_features,
            n_classes=len(classes),
            filters=classifier["filters"],
            depth=classifier["depth"],
            cell_px=cell_px,
            seed=seeds.integer(master_seed, "training", *factors, "unet"),
        ),
        mean=mean,
        sd=sd,
        picture=picture,
    )
    predictor = Predictor(network.evaluated, cells, maps, int(recipe["batch"]))
    learner = learner_of(network, cells, maps, predictor, augmentation=recipe["augmentation"])
    made_of = {key: table.attributes.get(key) for key in ("tiles_digests", "weights_sha256", "layer", "cell_px")}
    checkpoint = checkpoints.Checkpoint(
        resume,
        {
            "network": name,
            "classifier": dict(classifier),
            "canvas": dict(canvas),
            "feature_set": dict(feature_set),
            "recipe": dict(recipe),
            "classes": list(classes),
            "trained": "a U-Net, on maps",
            "dataset": dataset,
            "task": task,
            "split": split_name,
            "seed": split_seed,
            "master_seed": master_seed,
            "tiles": checkpoints.digest_of_tiles([table.image, table.tile, maps.label, table.set], made_of),
            "code": code,
            "backend": process.name(),
            "arithmetic_threads": arithmetic_threads,
        },
    )
    outcome = epochs.run(
        learner,
        name=name,
        labels=maps.labels,
        rows=maps.rows,
        recipe=recipe,
        phases=range(len(recipe["phases"])),
        classes=classes,
        generator_of=partial(seeds.generator, master_seed, "training", *factors),
        checkpoint=checkpoint,
    )
    said = table.attributes
    results.write_network_predictions(
        predictions,
        table=table,
        rows=maps.tiles,
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
            "features": features_name,
            "classifier": classifier_name,
            "network": str(said.get("network", "")),
            "weights": str(said.get("weights", "")),
            "untrained": bool(said.get("untrained", False)),
            "saw_labels": bool(said.get("saw_labels", False)),
            "columns": [[own.network, own.layer, own.stop - own.start] for own in table.columns],
            "n_features": table.n_features,
            "n_selected": table.n_features,
            "canvas": dict(canvas),
            "filters": classifier["filters"],
            "depth": classifier["depth"],
            "standardise": mean is not None,
            "parameters": int(network.unet.count_params()),
        },
        logits_of=predictor.logits,
    )
    results.write_history(history, outcome)
    results.write_curve(curve, outcome)
    results.save_network(model, network.model)
    checkpoint.remove()
    log.info("%s: trained in %.1f s", name, time.monotonic() - started)


def check_recipe(recipe: Mapping[str, Any]) -> None:
    """Raise if a recipe asks for what cannot be done with maps.

    Raises
    ------
    ValueError
        Naming the recipe's key.
    """
    where = f"recipes.{recipe['name']}"
    if recipe["precision"] != "float32":
        raise ValueError(f"{where}.precision: maps are trained in float32; found {recipe['precision']!r}")
    for key, value in (recipe["augmentation"] or {}).items():
        if key not in AUGMENTATIONS and value not in (None, False, 0, "none"):
            raise ValueError(f"{where}.augmentation: maps are varied by {' and '.join(AUGMENTATIONS)}; found {key}")
