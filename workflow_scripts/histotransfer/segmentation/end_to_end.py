"""End-to-end learning: a network of tiles and a network of the slide trained as one, in the memory of one mini-batch.

Takahama, S. et al. (2019), "Multi-stage pathological image classification using semantic segmentation", section
3.2.2. All tiles of a map through both networks at once would need the memory of thousands of tiles. Instead, with x the
vectors that the extractor makes of the tiles and L the loss of the map:

1. forward the tiles through the extractor by mini-batches, and keep nothing but x;
2. lay x out on the map;
3. forward and backward through the U-Net: its own gradients, and dL/dx, which is kept;
4. L' = (dL/dx) . x with dL/dx a constant (equation 3), whose gradient by the extractor's weights is that of L
   (equation 4);
5. forward and backward through the extractor by mini-batches with L', the gradients added up.

Then one optimiser moves both, one step a map. The gradient is that of the joined network, but for rounding, as long as
both passes make the same x: what varies a tile is drawn from the epoch, the step and the mini-batch, and layers are in
inference mode (no dropout, batch normalisation by its moving statistics, which stay).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from histotransfer import provenance, seeds, store
from histotransfer.backends import process
from histotransfer.networks import specification
from histotransfer.segmentation import feature_maps, unet
from histotransfer.segmentation.extractor import EXTRACTOR, UNET, ExtractedCells, Extractor, build_extractor
from histotransfer.segmentation.feature_maps import Piece
from histotransfer.segmentation.gradients import MapGradients, MapStep
from histotransfer.segmentation.maps import lay_out, write_canvases
from histotransfer.segmentation.movement import MOVED, Movement
from histotransfer.segmentation.network import Network, attach, load
from histotransfer.segmentation.predicting import Predictor
from histotransfer.tables import tile_table
from histotransfer.training import checkpoints, epochs, head, optimisation, results

log = logging.getLogger("histotransfer")


def train_end_to_end(
    *,
    pixels: Sequence[str],
    extractor: str,
    segmentation: str,
    labels: Sequence[str],
    slides_table: str,
    split_file: str,
    model: str,
    trained_extractor: str,
    predictions: str,
    history: str,
    curve: str,
    canvases: str,
    moved: str,
    start: Mapping[str, Any],
    start_name: str,
    network_name: str,
    layer: str | None,
    recipe: Mapping[str, Any],
    classifier: Mapping[str, Any],
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
    """Go on with the training of a network of tiles and a U-Net on its vectors, both together, and predict.

    A training that was interrupted goes on from its last finished epoch and comes to the same weights.

    Parameters
    ----------
    pixels : sequence of path
        Pixel files of the dataset, at the size that the extractor's recipe crops from, or its input size.
    extractor : path
        ``model.keras`` of :func:`histotransfer.training.network_on_tiles.train_network`.
    segmentation : path
        ``model.keras`` of :func:`histotransfer.segmentation.unet_training.train_unet` on its vectors. By what these
        were standardised there, they are here too.
    labels : sequence of path
    slides_table, split_file : path
    model, trained_extractor, predictions, history, curve, canvases, moved : path
        Written: ``model.keras`` as :func:`segmentation.train_unet` leaves it; ``extractor.keras`` from stored tiles,
        uint8, to vectors, float32 (n, d); ``predictions.h5``; ``history.tsv`` and ``curve.tsv`` (see :mod:`epochs`);
        ``canvases.tsv``; ``moved.tsv`` (:data:`MOVED`).
    start : mapping
        What the extractor's training began from, as :func:`networks.specification` takes it.
    start_name, network_name : str
        Its name, and the extractor's, among ``networks``.
    layer : str or None
        Of the extractor, whose outputs are the vectors; None: the start's own.
    recipe : mapping
        See :mod:`recipes`: ``batch`` is tiles of a mini-batch, and each map is a step. Groups are ``extractor`` and
        ``unet``. ``augmentation`` and ``crop_from`` are of tiles; ``head`` and ``initialisation`` are not looked at.
    classifier : mapping
        ``depth`` of the U-Net.
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
        If the input is not fit to train on, the two networks, their layer, the recipe and the canvas do not fit, the
        loss is not finite, memory runs out, or the checkpoint is of another training.
    OSError
        If a file cannot be read or written.
    """
    started = time.monotonic()
    name = f"{features_name}+{classifier_name}"
    check_recipe(recipe)
    spec = specification.specification(start)
    multiple = unet.multiple(classifier["depth"])
    feature_maps.check_canvas(canvas["size"], canvas["per"], multiple)
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
    maps = lay_out(table, rows, canvas=canvas, multiple=multiple)
    write_canvases(canvases, maps, name=name)
    # what is wrong with the tiles is said before a network is built
    epochs.check_tiles(labels=maps.label, rows=maps.tiles, recipe=recipe, classes=classes)
    process.set_threads(arithmetic_threads)
    process.set_deterministic()
    pair = load_pair(
        extractor=extractor,
        segmentation=segmentation,
        start=start,
        layer=layer,
        px_stored=table.matrix.px,
        n_classes=len(classes),
        recipe=recipe,
    )
    factors = (dataset, task, split_name, split_seed, features_name, classifier_name)
    movement = Movement(
        {
            EXTRACTOR: pair.extractor.trained.trainable_variables,
            UNET: pair.segmentation.unet.trainable_variables,
        }
    )
    batch = int(recipe["batch"])
    cells = ExtractedCells(pair.extractor, table.matrix, table.place, batch)
    # a map at a time: its vectors come from as many tiles as it has
    predictor = Predictor(pair.segmentation.evaluated, cells, maps, 1)

    def map_of(number: int) -> tuple[Piece, np.ndarray, np.ndarray]:
        piece = maps.trained[number]
        return piece, feature_maps.label_map(maps.label[piece.rows], piece), table.place[piece.rows]

    def compile_step(
        *, weights: Sequence[Any], groups: Sequence[str], slots: Any, scale: Any, update: Any, rescaled: None
    ) -> MapStep:
        return MapStep(
            gradients=MapGradients(
                extractor=pair.extractor,
                logits=pair.segmentation.evaluated,
                tiles=table.matrix,
                varied=recipe["augmentation"],
                batch=batch,
            ),
            maps=map_of,
            trained=pair.trainable_variables,
            weights=weights,
            groups=groups,
            slots=slots,
            update=update,
            movement=movement,
        )

    learner = epochs.Learner(
        trained=pair.joined,
        evaluated=None,
        groups={EXTRACTOR: [pair.extractor.trained], UNET: [pair.segmentation.unet]},
        read=_numbers,
        draw=_draw_seed,
        unit="maps",
        batch=1,
        compile_step=compile_step,
        evaluate=predictor.evaluate,
        epoch_ended=movement.rows,
    )
    kept = kept_mib([maps.trained[k] for k in maps.rows["train"]], pair.extractor.n_features)
    log.info(
        "%s: kept between the passes of the largest map (%d tiles): vectors and gradients %.1f MiB, maps %.1f MiB",
        *(name, kept["tiles"], kept["vectors"], kept["maps"]),
    )
    made_of = {key: table.attributes.get(key) for key in ("tiles_digests", "px")}
    checkpoint = checkpoints.Checkpoint(
        resume,
        {
            "network": name,
            "extractor": provenance.file_sha256(extractor),
            "segmentation": provenance.file_sha256(segmentation),
            "start": dict(start),
            "layer": layer,
            "classifier": dict(classifier),
            "canvas": dict(canvas),
            "recipe": dict(recipe),
            "classes": list(classes),
            "trained": "a network of tiles and a U-Net, end to end",
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
    trained_groups = set().union(*(optimisation.group_factors([EXTRACTOR, UNET], phase) for phase in recipe["phases"]))
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
            "network": network_name,
            "start": start_name,
            "weights": f"of {network_name} and the U-Net, then end to end",
            "untrained": spec.untrained and EXTRACTOR not in trained_groups,
            "columns": [[network_name, layer or spec.layer, pair.extractor.n_features]],
            "n_features": pair.extractor.n_features,
            "n_selected": pair.extractor.n_features,
            "canvas": dict(canvas),
            "depth": classifier["depth"],
            "parameters": int(pair.joined.count_params()),
            "kept_mib": kept,
        },
        logits_of=predictor.logits,
    )
    results.write_history(history, outcome)
    results.write_curve(curve, outcome)
    store.write_table(moved, MOVED, outcome.notes)
    results.save_network(trained_extractor, pair.extractor.evaluated)
    results.save_network(model, pair.segmentation.model)
    checkpoint.remove()
    log.info("%s: trained in %.1f s", name, time.monotonic() - started)


@dataclass(frozen=True)
class Pair:
    """The two networks that are trained as one.

    Attributes
    ----------
    extractor : Extractor
    segmentation : segmentation.Network
    joined : keras.Model
        Both side by side: what holds all their variables.
    """

    extractor: Extractor
    segmentation: Network
    joined: Any

    @property
    def trainable_variables(self) -> list[Any]:
        """What the gradients of a :class:`MapFound` are by."""
        return [*self.extractor.trained.trainable_variables, *self.segmentation.evaluated.trainable_variables]


def load_pair(
    *,
    extractor: str,
    segmentation: str,
    start: Mapping[str, Any],
    layer: str | None,
    px_stored: int,
    n_classes: int,
    recipe: Mapping[str, Any],
) -> Pair:
    """Load the two networks that training begins with.

    Parameters
    ----------
    extractor, segmentation, start, layer, recipe
        See :func:`train_end_to_end`.
    px_stored : int
        Edge of the stored tiles.
    n_classes : int

    Returns
    -------
    Pair

    Raises
    ------
    ValueError
        If a file is refused, or the two do not fit each other, the tiles or the classes: the file is named.
    """
    import keras

    below = build_extractor(extractor, start=start, layer=layer)
    if below.px_stored != px_stored:
        raise ValueError(
            f"recipes.{recipe['name']}.crop_from: {extractor} takes tiles of {below.px_stored} px; found {px_stored} px"
        )
    network, mean, sd = load(segmentation)
    taken, made = int(network.inputs[0].shape[-1]), int(network.outputs[0].shape[-1])
    if taken != below.n_features:
        raise ValueError(
            f"{segmentation}: the U-Net must take the {below.n_features} values that {layer or 'the last layer'} of "
            f"{extractor} has; found one that takes {taken}"
        )
    if made != n_classes:
        raise ValueError(f"{segmentation}: the U-Net must tell {n_classes} classes; found one that tells {made}")
    above = attach(network, mean=mean, sd=sd)
    given = [keras.Input(one.inputs[0].shape[1:], name=one.inputs[0].name) for one in (below.trained, above.evaluated)]
    joined = keras.Model(given, [below.trained(given[0]), above.evaluated(given[1])], name="joined")
    return Pair(below, above, joined)


def check_recipe(recipe: Mapping[str, Any]) -> None:
    """Raise if a recipe asks for what end-to-end learning has not.

    Raises
    ------
    ValueError
        Naming the recipe's key.
    """
    if recipe["precision"] != "float32":
        # a kept gradient of float16 would need a scale of its own, one of bfloat16 has three digits
        raise ValueError(
            f"recipes.{recipe['name']}.precision: end-to-end learning keeps vectors and gradients in float32; found "
            f"{recipe['precision']!r}"
        )


def kept_mib(pieces: Sequence[Piece], n_features: int) -> dict[str, float]:
    """Return what is kept between the passes of the map with the most tiles: in MiB, and how many tiles it has.

    Parameters
    ----------
    pieces : sequence of Piece
    n_features : int

    Returns
    -------
    dict
        ``tiles``; ``vectors``: x and dL/dx; ``maps``: what the U-Net takes and its gradient, of the largest canvas.
    """
    tiles = max(len(piece.rows) for piece in pieces)
    cells = max(piece.size for piece in pieces) ** 2
    of_vectors, of_maps = 2 * 4 * tiles * n_features, 2 * 4 * cells * (n_features + 1)
    return {"tiles": tiles, "vectors": of_vectors / 2**20, "maps": of_maps / 2**20}


def _numbers(
    rows: np.ndarray, batch: int, generator: np.random.Generator | None
) -> Generator[tuple[np.ndarray, None], None, None]:
    """Yield the numbers of maps, one a step: their tiles are read by the step itself, twice."""
    for number in rows:
        yield np.array([number]), None


def _draw_seed(n: int, generator: np.random.Generator) -> dict[str, np.ndarray]:
    return {"seed": generator.integers(0, 2**63, n)}
