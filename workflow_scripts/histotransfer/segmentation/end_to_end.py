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
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from histotransfer import provenance, store
from histotransfer.definitions import Canvas, EndToEnd, Factors, LearningTables, Recipe, Split
from histotransfer.feature_kinds import StoredTiles, TileSize
from histotransfer.plain_data import plain
from histotransfer.segmentation import feature_maps, unet
from histotransfer.segmentation import maps as segmentation_maps
from histotransfer.segmentation.extractor import (
    EXTRACTOR,
    UNET,
    ExtractedCells,
    Extractor,
    TrainedLayer,
    build_extractor,
)
from histotransfer.segmentation.feature_maps import Piece
from histotransfer.segmentation.gradients import MapGradients, MapStep
from histotransfer.segmentation.maps import Maps
from histotransfer.segmentation.movement import MOVED, Movement
from histotransfer.segmentation.network import Network, attach, load, without_training
from histotransfer.segmentation.predicting import Predictor
from histotransfer.segmentation.unet_training import UnetFiles
from histotransfer.tables import tile_table
from histotransfer.training import optimisation, results
from histotransfer.training.job import Job, TrainingSettings
from histotransfer.training.learner import Learner

log = logging.getLogger("histotransfer")


@dataclass(frozen=True)
class EndToEndFiles(UnetFiles):
    """What end-to-end learning writes: paths.

    Attributes
    ----------
    trained_extractor : str
        ``extractor.keras``, from stored tiles, uint8 (n, px, px, 3), to vectors, float32 (n, d).
    moved : str
        ``moved.tsv``: :data:`histotransfer.segmentation.movement.MOVED`.
    """

    trained_extractor: str
    moved: str


def train_end_to_end(
    *,
    pixels: Sequence[str],
    extractor: str,
    segmentation: str,
    tables: LearningTables,
    files: EndToEndFiles,
    source: TrainedLayer,
    classifier: EndToEnd,
    canvas: Canvas,
    classes: tuple[str, ...],
    split: Split,
    factors: Factors,
    settings: TrainingSettings,
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
    tables : LearningTables
    files : EndToEndFiles
        Written. The model is as that of :func:`histotransfer.segmentation.unet_training.train_unet`.
    source : TrainedLayer
        The extractor, and its layer whose outputs are the vectors.
    classifier : EndToEnd
        Of its recipe, ``batch`` is tiles of a mini-batch, and each map is a step; groups are ``extractor`` and
        ``unet``; ``augmentation`` and ``crop_from`` are of tiles; ``head`` and ``initialisation`` are not used.
    canvas : Canvas
    classes : tuple of str
        In declared order.
    split : Split
    factors : Factors
    settings : TrainingSettings

    Raises
    ------
    ValueError
        If the input is not fit to train on, the two networks, their layer, the recipe and the canvas do not fit, the
        loss is not finite, memory runs out, or the checkpoint is of another training.
    OSError
        If a file cannot be read or written.
    """
    recipe = classifier.recipe
    check_recipe(recipe)
    job = Job(factors, recipe, classes, split, tables, files, settings)
    px_stored = recipe.crop_from or source.start.px
    maps, data = segmentation_maps.read(
        job,
        pixels,
        StoredTiles(TileSize(px_stored)),
        canvas=canvas,
        multiple=unet.multiple(classifier.depth),
        canvases=files.canvases,
    )
    table = data.table
    pair = load_pair(
        extractor=extractor,
        segmentation=segmentation,
        source=source,
        px_stored=table.matrix.px,
        n_classes=len(classes),
        recipe=recipe,
    )
    learner, predictor = _learner_of(pair, recipe, maps, table)
    checkpoint = job.checkpoint(
        data,
        trained="a network of tiles and a U-Net, end to end",
        made_of=("tiles_digests", "px"),
        extractor=provenance.file_sha256(extractor),
        segmentation=provenance.file_sha256(segmentation),
        start=plain(source.start),
        layer=source.layer,
        classifier=without_training(classifier),
        canvas=plain(canvas),
    )
    kept = _kept_between_passes(job, maps, pair)
    outcome = job.run(learner, data, checkpoint)
    job.write(
        data,
        outcome,
        logits_of=predictor.logits,
        attributes={**_attributes(pair, source, classifier, canvas), "kept_mib": kept},
    )
    store.write_table(files.moved, MOVED, outcome.notes)
    results.save_network(files.trained_extractor, pair.extractor.evaluated)
    results.save_network(files.model, pair.segmentation.model)
    job.end(checkpoint)


def _learner_of(pair: Pair, recipe: Recipe, maps: Maps, table: tile_table.TileIndex) -> tuple[Learner, Predictor]:
    """Return both networks as one learner, for :class:`histotransfer.training.epochs.Training`, and what predicts."""
    # a map at a time: its vectors come from as many tiles as it has
    cells = ExtractedCells(pair.extractor, table.matrix, table.place, recipe.batch)
    predictor = Predictor(pair.segmentation.evaluated, cells, maps, 1)
    movement = Movement(pair.variables_by_group)

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
                varied=recipe.augmentation,
                batch=recipe.batch,
            ),
            maps=map_of,
            trained=pair.trainable_variables,
            weights=weights,
            groups=groups,
            slots=slots,
            update=update,
            movement=movement,
        )

    learner = Learner(
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
    return learner, predictor


def _kept_between_passes(job: Job, maps: Maps, pair: Pair) -> dict[str, float]:
    """Return :func:`kept_mib` of the training maps, and say it."""
    kept = kept_mib([maps.trained[k] for k in maps.rows["train"]], pair.extractor.n_features)
    log.info(
        "%s: kept between the passes of the largest map (%d tiles): vectors and gradients %.1f MiB, maps %.1f MiB",
        *(job.name, kept["tiles"], kept["vectors"], kept["maps"]),
    )
    return kept


def _attributes(pair: Pair, source: TrainedLayer, classifier: EndToEnd, canvas: Canvas) -> dict[str, Any]:
    phases = classifier.recipe.phases
    trained_groups = set().union(*(optimisation.group_factors([EXTRACTOR, UNET], phase) for phase in phases))
    return {
        "network": source.network_name,
        "start": source.start_name,
        "weights": f"of {source.network_name} and the U-Net, then end to end",
        "untrained": source.start.untrained and EXTRACTOR not in trained_groups,
        "columns": [[source.network_name, source.layer or source.start.layer, pair.extractor.n_features]],
        "n_features": pair.extractor.n_features,
        "n_selected": pair.extractor.n_features,
        "canvas": plain(canvas),
        "depth": classifier.depth,
        "parameters": int(pair.joined.count_params()),
    }


@dataclass(frozen=True)
class Pair:
    """The two networks that are trained as one.

    Attributes
    ----------
    extractor : Extractor
    segmentation : Network
    joined : keras.Model
        Both side by side: what holds all their variables.
    """

    extractor: Extractor
    segmentation: Network
    joined: Any

    @property
    def variables_by_group(self) -> dict[str, list[Any]]:
        """The trained weights of each group."""
        return {
            EXTRACTOR: self.extractor.trained.trainable_variables,
            UNET: self.segmentation.unet.trainable_variables,
        }

    @property
    def trainable_variables(self) -> list[Any]:
        """What the gradients of a :class:`histotransfer.segmentation.gradients.MapResult` are by."""
        return [*self.extractor.trained.trainable_variables, *self.segmentation.evaluated.trainable_variables]


def load_pair(
    *,
    extractor: str,
    segmentation: str,
    source: TrainedLayer,
    px_stored: int,
    n_classes: int,
    recipe: Recipe,
) -> Pair:
    """Load the two networks that training begins with.

    Parameters
    ----------
    extractor, segmentation : path
        See :func:`train_end_to_end`.
    source : TrainedLayer
        The extractor's layer.
    px_stored : int
        Edge of the stored tiles.
    n_classes : int
    recipe : Recipe
        Of the training, for messages.

    Returns
    -------
    Pair

    Raises
    ------
    ValueError
        If a file is refused, or the two do not fit each other, the tiles or the classes: the file is named.
    """
    import keras

    below = build_extractor(extractor, start=source.start, layer=source.layer)
    if below.px_stored != px_stored:
        raise ValueError(
            f"recipes.{recipe.name}.crop_from: {extractor} takes tiles of {below.px_stored} px; found {px_stored} px"
        )
    network, mean, sd = load(segmentation)
    taken, made = int(network.inputs[0].shape[-1]), int(network.outputs[0].shape[-1])
    if taken != below.n_features:
        raise ValueError(
            f"{segmentation}: the U-Net must take the {below.n_features} values that "
            f"{source.layer or 'the last layer'} of {extractor} has; found one that takes {taken}"
        )
    if made != n_classes:
        raise ValueError(f"{segmentation}: the U-Net must tell {n_classes} classes; found one that tells {made}")
    above = attach(network, mean=mean, sd=sd)
    given = [
        keras.Input(each.inputs[0].shape[1:], name=each.inputs[0].name) for each in (below.trained, above.evaluated)
    ]
    joined = keras.Model(given, [below.trained(given[0]), above.evaluated(given[1])], name="joined")
    return Pair(below, above, joined)


def check_recipe(recipe: Recipe) -> None:
    """Raise if a recipe asks for what end-to-end learning does not do.

    Raises
    ------
    ValueError
        Naming the recipe's key.
    """
    if recipe.precision != "float32":
        # a kept gradient of float16 would need a scale of its own, one of bfloat16 has three digits
        raise ValueError(
            f"recipes.{recipe.name}.precision: end-to-end learning keeps vectors and gradients in float32; found "
            f"{recipe.precision!r}"
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
