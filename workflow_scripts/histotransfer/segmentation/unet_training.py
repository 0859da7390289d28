"""U-Nets on maps: a network that takes the map of a whole slide, or of a piece of it, and gives each tile's class.

The map is of features of the slide's tiles, or the slide itself at low resolution
(:mod:`histotransfer.tables.slide_images`). Only cells of tiles with a label are learnt from and scored; every tile is
predicted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from histotransfer.backends import compiled, protocols
from histotransfer.definitions import Augmentation, Canvas, Factors, LearningTables, Recipe, Split, Unet
from histotransfer.feature_kinds import Layers, SlideImage
from histotransfer.plain_data import plain
from histotransfer.predictions import NO_LABEL
from histotransfer.segmentation import maps as segmentation_maps
from histotransfer.segmentation import unet
from histotransfer.segmentation.cells import FeatureCells, PictureCells, batches, mean_and_deviation
from histotransfer.segmentation.maps import Maps
from histotransfer.segmentation.network import Network, attach, without_training
from histotransfer.segmentation.predicting import Predictor
from histotransfer.tables import tile_table
from histotransfer.training import results
from histotransfer.training.job import Job, TrainingFiles, TrainingSettings
from histotransfer.training.learner import Learner

#: What a recipe may vary of a map.
AUGMENTATIONS = ("flip", "quarter_turns")


@dataclass(frozen=True)
class UnetFiles(TrainingFiles):
    """What the training of a U-Net writes: paths.

    Attributes
    ----------
    canvases : str
        ``canvases.tsv``, a row a map: :data:`histotransfer.segmentation.feature_maps.COLUMNS`.
    """

    canvases: str


class _MapStep:
    """A step of training on maps, which counts labelled cells, not maps."""

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
    augmentation: Augmentation | None,
) -> Learner:
    """Return a U-Net as :class:`histotransfer.training.epochs.Training` trains it, with the one group ``unet``."""

    def prepare(inputs: Any, drawn: Mapping[str, Any]) -> Any:
        return network.front(inputs)

    def compile_step(*, groups: Sequence[str], **moved: Any) -> protocols.TrainStep:
        return _MapStep(compiled.compiled_train_step(network.unet, prepare=prepare, loss=unet.step_loss, **moved))

    return Learner(
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
    tables: LearningTables,
    files: UnetFiles,
    feature_set: Layers | SlideImage,
    classifier: Unet,
    canvas: Canvas,
    classes: tuple[str, ...],
    split: Split,
    factors: Factors,
    settings: TrainingSettings,
) -> None:
    """Train a U-Net on maps of slides, and predict the tiles that were held out.

    A training that was interrupted goes on from its last finished epoch and comes to the same weights.

    Parameters
    ----------
    features : sequence of path
        Manifests of the networks' shards; slide images where `feature_set` is a :class:`SlideImage`.
    tables : LearningTables
    files : UnetFiles
        Written. The model is from maps as they are (:func:`histotransfer.segmentation.network.attach`) to
        probabilities.
    feature_set : Layers or SlideImage
    classifier : Unet
        Its recipe's ``batch`` is maps a step, its ``augmentation`` has ``flip`` and ``quarter_turns`` alone; ``head``
        and ``initialisation`` are not used. Features are standardised by the tiles of the training maps.
    canvas : Canvas
    classes : tuple of str
        In declared order.
    split : Split
    factors : Factors
    settings : TrainingSettings

    Raises
    ------
    ValueError
        If the input is not fit to train on, the recipe, canvas and network do not fit, the loss is not finite, memory
        runs out, or the checkpoint is of another training (:func:`histotransfer.segmentation.maps.read`,
        :class:`histotransfer.training.epochs.Training`).
    OSError
        If a file cannot be read or written.
    """
    recipe = classifier.recipe
    check_recipe(recipe)
    job = Job(factors, recipe, classes, split, tables, files, settings)
    cell_px = feature_set.image.cell_px if isinstance(feature_set, SlideImage) else 1
    multiple = unet.multiple(classifier.depth, cell_px)
    maps, data = segmentation_maps.read(
        job, features, feature_set, canvas=canvas, multiple=multiple, canvases=files.canvases
    )
    table = data.table
    cells = PictureCells(table) if isinstance(feature_set, SlideImage) else FeatureCells(table)
    network = _build(job, classifier, cells, maps, n_features=table.n_features)
    predictor = Predictor(network.evaluated, cells, maps, recipe.batch)
    checkpoint = job.checkpoint(
        data,
        trained="a U-Net, on maps",
        made_of=("tiles_digests", "weights_sha256", "layer", "cell_px"),
        classifier=without_training(classifier),
        canvas=plain(canvas),
        feature_set=plain(feature_set),
    )
    learner = learner_of(network, cells, maps, predictor, augmentation=recipe.augmentation)
    outcome = job.run(learner, data, checkpoint)
    job.write(
        data,
        outcome,
        logits_of=predictor.logits,
        attributes={
            **_attributes(table),
            "canvas": plain(canvas),
            "filters": classifier.filters,
            "depth": classifier.depth,
            "standardise": _standardises(classifier, cells),
            "parameters": int(network.unet.count_params()),
        },
    )
    results.save_network(files.model, network.model)
    job.end(checkpoint)


def _build(job: Job, classifier: Unet, cells: FeatureCells | PictureCells, maps: Maps, *, n_features: int) -> Network:
    """Return a U-Net with random weights, standardised by the training maps."""
    mean = sd = None
    if _standardises(classifier, cells):
        mean, sd = mean_and_deviation(cells.values, [maps.trained[k] for k in maps.rows["train"]])
    network = unet.build_unet(
        n_features=n_features,
        n_classes=len(job.classes),
        filters=classifier.filters,
        depth=classifier.depth,
        cell_px=cells.cell_px,
        seed=job.seed_of("unet"),
    )
    return attach(network, mean=mean, sd=sd, picture=isinstance(cells, PictureCells))


def _standardises(classifier: Unet, cells: FeatureCells | PictureCells) -> bool:
    return classifier.standardise and isinstance(cells, FeatureCells)


def _attributes(table: tile_table.TileIndex) -> dict[str, Any]:
    of_features = table.attributes
    return {
        "network": str(of_features.get("network", "")),
        "weights": str(of_features.get("weights", "")),
        "untrained": bool(of_features.get("untrained", False)),
        "saw_labels": bool(of_features.get("saw_labels", False)),
        "columns": [[columns.network, columns.layer, columns.stop - columns.start] for columns in table.columns],
        "n_features": table.n_features,
        "n_selected": table.n_features,
    }


def check_recipe(recipe: Recipe) -> None:
    """Raise if a recipe asks for what cannot be done with maps.

    Raises
    ------
    ValueError
        Naming the recipe's key.
    """
    where = f"recipes.{recipe.name}"
    if recipe.precision != "float32":
        raise ValueError(f"{where}.precision: maps are trained in float32; found {recipe.precision!r}")
    varied = {} if recipe.augmentation is None else asdict(recipe.augmentation)
    for key, value in varied.items():
        if key not in AUGMENTATIONS and value not in (None, False, 0, "none"):
            raise ValueError(f"{where}.augmentation: maps are varied by {' and '.join(AUGMENTATIONS)}; found {key}")
