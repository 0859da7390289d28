"""Segmentation networks: a U-Net that sees the map of a whole slide, or of a piece of it, and tells each tile's class.

The map is of features of the slide's tiles, or the slide itself at low resolution (:mod:`slide_images`). Only cells of
tiles with a label are learnt from and scored; every tile is predicted.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from histotransfer import (
    backends,
    checkpoints,
    epochs,
    feature_maps,
    heads,
    networks,
    seeds,
    slide_images,
    store,
    tile_table,
    training_results,
    unet,
)
from histotransfer.feature_maps import Piece
from histotransfer.predictions import NO_LABEL

log = logging.getLogger("histotransfer")

#: Names of the layers of a saved network, in order; ``unet`` between them.
FRONT, STANDARDISE, PROBABILITY = "front", "standardise", "probability"
#: What a recipe may vary of a map.
AUGMENTATIONS = ("flip", "quarter_turns")
#: Features of all tiles are held in memory up to so many bytes, else read map by map: 16 values a tile of four million
#: tiles stay in memory, 1,024 of a hundred thousand do not. Maps themselves, mostly empty, are made batch by batch.
_HELD_BYTES = 1 << 28


@dataclass(frozen=True)
class Maps:
    """The maps of all slides, and what of them is learnt from and looked at.

    Attributes
    ----------
    trained : list of Piece
        Each map on the canvas that it has in training.
    whole : list of Piece
        The same maps on canvases that hold all of their tiles: for predicting.
    set : ndarray of str, shape (n_maps,)
    label : ndarray of int32, shape (n_tiles,)
        Of each tile of the table; -1 where it has none, or counts for nothing: a training tile that is left out, or
        that the canvas cuts off.
    tiles : dict of str to ndarray of int
        Tiles that count, by set, as places in the table.
    rows : dict of str to ndarray of int
        Maps with such a tile, by set.
    """

    trained: list[Piece]
    whole: list[Piece]
    set: np.ndarray
    label: np.ndarray
    tiles: dict[str, np.ndarray]
    rows: dict[str, np.ndarray]

    @property
    def labels(self) -> np.ndarray:
        """Labels of each map's tiles, as :func:`epochs.run` takes them: an array of arrays."""
        labels = np.empty(len(self.whole), object)
        for k, piece in enumerate(self.whole):
            labels[k] = self.label[piece.rows].astype(np.int64)
        return labels


def lay_out(
    table: tile_table.TileIndex, rows: Mapping[str, np.ndarray], *, canvas: Mapping[str, Any], multiple: int
) -> Maps:
    """Lay the tiles of a table out on maps.

    Parameters
    ----------
    table : TileIndex
    rows : mapping
        See :func:`training_results.rows_of_sets`.
    canvas : mapping
        ``size`` (cells, or ``fit``) and ``per`` (``slide`` or ``piece``).
    multiple : int
        What edges of canvases must be a multiple of: :func:`unet.multiple`.

    Returns
    -------
    Maps

    Raises
    ------
    ValueError
        If the canvas is not legal, or tiles of one slide lie in several sets.
    """
    _check_one_set(table)
    trained = feature_maps.layout(table.image, table.tile, size=canvas["size"], per=canvas["per"], multiple=multiple)
    whole = trained
    if any(len(piece.cut_off) for piece in trained):
        # ASSUME a piece that is larger than its canvas is predicted on the canvas that it needs: the network takes any
        # size, and every method is scored on the same tiles
        fit = feature_maps.FIT
        needed = feature_maps.layout(table.image, table.tile, size=fit, per=canvas["per"], multiple=multiple)
        whole = [fits if len(own.cut_off) else own for own, fits in zip(trained, needed, strict=True)]
    cut_off = np.zeros(len(table.tile), bool)
    for piece in trained:
        cut_off[piece.cut_off] = True
    tiles = {name: own[~cut_off[own]] if name == "train" else own for name, own in rows.items()}
    label = np.full(len(table.tile), NO_LABEL, np.int32)
    for own in tiles.values():
        label[own] = table.label[own]
    sets = np.array([table.set[piece.rows[0]] for piece in whole], dtype=object)
    # a map without any label has no loss
    counts = np.array([(label[piece.rows] != NO_LABEL).any() for piece in whole], bool)
    return Maps(
        trained=trained,
        whole=whole,
        set=sets,
        label=label,
        tiles=tiles,
        rows={name: np.flatnonzero((sets == name) & counts) for name in rows},
    )


def _check_one_set(table: tile_table.TileIndex) -> None:
    set_of: dict[str, str] = {}
    for image, own in zip(table.image.tolist(), table.set.tolist(), strict=True):
        other = set_of.setdefault(image, own)
        if other != own:
            raise ValueError(
                "the tiles of a map are seen together, so a slide must lie in one set: take a split by patient or by "
                f"slide; found tiles of {image} in {other} and in {own}"
            )


def write_canvases(path: str, maps: Maps, *, name: str) -> None:
    """Write ``canvases.tsv``, one row a map, and say in one line what canvases cut off.

    Parameters
    ----------
    path : path
    maps : Maps
    name : str
        Of the method, for the line.
    """
    store.write_table(path, feature_maps.COLUMNS, feature_maps.canvas_rows(maps.trained))
    cut = [piece for piece in maps.trained if len(piece.cut_off)]
    if cut:
        most = max(cut, key=lambda piece: len(piece.cut_off))
        log.warning(
            "%s: %d of %d maps are larger than their canvas of %d cells; %d tiles are cut off and not trained on, most "
            "(%d) of piece %d of %s; see %s",
            *(name, len(cut), len(maps.trained), most.size, sum(len(piece.cut_off) for piece in cut)),
            *(len(most.cut_off), most.number, most.image, path),
        )


@dataclass(frozen=True)
class Network:
    """A U-Net and what stands before and behind it.

    Attributes
    ----------
    unet : keras.Model
        From what `front` gives to the logits, float32 (n, h, w, n_classes).
    front : keras.Model
        From maps as they are made to what the U-Net takes.
    evaluated : keras.Model
        From maps as they are made to the logits.
    model : keras.Model
        From maps as they are made to probabilities: what is saved.
    """

    unet: Any
    front: Any
    evaluated: Any
    model: Any


def attach(
    network: Any, *, mean: np.ndarray | None = None, sd: np.ndarray | None = None, picture: bool = False
) -> Network:
    """Put what a U-Net needs before and behind it, so that a saved one takes maps as they are.

    Parameters
    ----------
    network : keras.Model
        As :func:`unet.build_unet` builds it.
    mean, sd : ndarray of float32, shape (n_features,), optional
        By which features are standardised.
    picture : bool
        Whether it is one on slides at low resolution.

    Returns
    -------
    Network
        On features, float32 (n, h, w, n_features + 1): those of each tile at its cell and 0 elsewhere, and last a plane
        that is 1 where a tile is and 0 elsewhere. Features are standardised, and empty cells stay 0: the last plane
        tells them from tiles whose features are all 0. On pictures, uint8 (n, h * cell_px, w * cell_px, 3).
    """
    import keras

    n = int(network.inputs[0].shape[-1])
    if picture:
        given = keras.Input((None, None, n), dtype="uint8", name="pictures")
        # ASSUME darkness, from 0 to 1: glass is then 0, as an empty cell of a map of features is, and as what a
        # convolution finds beyond the edge
        x = keras.layers.Rescaling(-1 / 255, offset=1.0, name="darkness", dtype="float32")(given)
    else:
        given = keras.Input((None, None, n + 1), name="maps")
        # layers with names, where slices and products have numbers of the process in them: the same network gives the
        # same file. Channels named first, a cropping of two dimensions is one of a map's columns and its last axis
        taken = partial(keras.layers.Cropping2D, data_format="channels_first", dtype="float32")
        x = taken(((0, 0), (0, 1)), name="features")(given)
        if mean is not None:
            variance = np.square(np.asarray(sd, np.float32))
            layer = keras.layers.Normalization(
                axis=-1, mean=np.asarray(mean, np.float32), variance=variance, name=STANDARDISE, dtype="float32"
            )
            tiles = taken(((0, 0), (n, 0)), name="tiles")(given)
            x = keras.layers.Multiply(name="empty_cells", dtype="float32")([layer(x), tiles])
    front = keras.Model(given, x, name=FRONT)
    entered = keras.Input(given.shape[1:], dtype=given.dtype, name=given.name)
    logits = network(front(entered))
    return Network(
        unet=network,
        front=front,
        evaluated=keras.Model(entered, logits),
        model=keras.Model(
            entered, keras.layers.Softmax(name=PROBABILITY, dtype="float32")(logits), name="segmentation"
        ),
    )


def load(path: str) -> tuple[Any, np.ndarray | None, np.ndarray | None]:
    """Load a U-Net on maps of features that :func:`train_unet` saved.

    Parameters
    ----------
    path : path
        A ``model.keras``.

    Returns
    -------
    network : keras.Model
        The U-Net alone, from standardised maps to logits.
    mean, sd : ndarray of float32, shape (n_features,), or None
        By which :func:`attach` standardises.

    Raises
    ------
    ValueError
        If the file is refused, or is no such network.
    """
    model = networks.load_trained(path)
    found = [layer.name for layer in model.layers]
    if found[1:] != [FRONT, unet.NAME, PROBABILITY] or model.inputs[0].dtype != "float32":
        raise ValueError(
            f"segmentation network {path}: must be a U-Net on maps of features, with the layers {FRONT}, {unet.NAME} "
            f"and {PROBABILITY}; found {', '.join(found)}"
        )
    for layer in model.get_layer(FRONT).layers:
        if layer.name == STANDARDISE:
            mean, variance = (
                np.asarray(one, np.float32).reshape(-1) for one in (layer.input_mean, layer.input_variance)
            )
            return model.get_layer(unet.NAME), mean, np.sqrt(variance)
    return model.get_layer(unet.NAME), None, None


def mean_and_deviation(
    values_of: Callable[[np.ndarray], np.ndarray], pieces: Sequence[Piece]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and standard deviation of each feature over the tiles of some maps.

    Parameters
    ----------
    values_of : callable
        ``values_of(rows)``: features of some tiles, float32 (n, d).
    pieces : sequence of Piece

    Returns
    -------
    mean, sd : ndarray of float32, shape (d,)
        Over all tiles on the canvases, with a label or without; 1 where a feature is constant.
    """
    total, n = 0.0, 0
    low, high = np.inf, -np.inf
    for piece in pieces:
        values = values_of(piece.rows).astype(np.float64)
        total, n = total + values.sum(axis=0), n + len(values)
        low, high = np.minimum(low, values.min(axis=0)), np.maximum(high, values.max(axis=0))
    mean = total / n
    squares = sum(np.square(values_of(piece.rows) - mean).sum(axis=0) for piece in pieces)
    sd = np.where(low == high, 1.0, np.sqrt(squares / n))
    return mean.astype(np.float32), sd.astype(np.float32)


class FeatureCells:
    """Features of tiles as maps.

    Parameters
    ----------
    table : TileIndex
        Of features of networks.
    """

    cell_px = 1

    def __init__(self, table: tile_table.TileIndex) -> None:
        self._table = table
        holds = len(table.tile) * table.n_features * 4 <= _HELD_BYTES
        self._held = table.matrix.read(table.place) if holds else None

    def values(self, rows: np.ndarray) -> np.ndarray:
        """Return the features of some tiles, float32 (n, n_features)."""
        return self._table.matrix.read(self._table.place[rows]) if self._held is None else self._held[rows]

    def map(self, piece: Piece) -> np.ndarray:
        """Return a map of features, and of where tiles are: float32 (size, size, n_features + 1)."""
        values = self.values(piece.rows)
        return feature_maps.place(np.concatenate([values, np.ones((len(values), 1), np.float32)], axis=1), piece)


class PictureCells:
    """Slides at low resolution as maps.

    Parameters
    ----------
    table : TileIndex
        Of slide images.
    """

    def __init__(self, table: tile_table.TileIndex) -> None:
        self._images: slide_images.ImageIndex = table.matrix
        self.cell_px = self._images.cell_px

    def map(self, piece: Piece) -> np.ndarray:
        """Return the slide under a canvas, other pieces there too: uint8 (size * cell_px, size * cell_px, 3)."""
        return self._images.window(piece.image, first_row=piece.first_row, first_col=piece.first_col, size=piece.size)


def padded(maps: Sequence[np.ndarray], labels: Sequence[np.ndarray], fill: int) -> tuple[np.ndarray, np.ndarray]:
    """Return maps of several sizes as one batch of the largest, each in the middle.

    Parameters
    ----------
    maps : sequence of ndarray, shapes (size * cell_px, size * cell_px, d)
    labels : sequence of ndarray of int32, shapes (size, size)
    fill : int
        What stands around a map; around labels it is -1.

    Returns
    -------
    maps : ndarray of shape (n, largest * cell_px, largest * cell_px, d)
    labels : ndarray of int32, shape (n, largest, largest)
    """
    largest = max(map(len, labels))
    cell_px = len(maps[0]) // len(labels[0])
    edge = largest * cell_px
    batch = np.full((len(maps), edge, edge, maps[0].shape[2]), fill, maps[0].dtype)
    of_cells = np.full((len(maps), largest, largest), NO_LABEL, np.int32)
    for k, (one, own) in enumerate(zip(maps, labels, strict=True)):
        first, size = (largest - len(own)) // 2, len(own)
        of_cells[k, first : first + size, first : first + size] = own
        first, size = first * cell_px, size * cell_px
        batch[k, first : first + size, first : first + size] = one
    return batch, of_cells


def turned(map_: np.ndarray, *, quarter_turns: int, left_right: bool, up_down: bool) -> np.ndarray:
    """Return a map turned against the clock, then flipped: (size, size) or (size, size, d)."""
    map_ = np.rot90(map_, quarter_turns)
    map_ = map_[:, ::-1] if left_right else map_
    return map_[::-1] if up_down else map_


def draw_turns(augmentation: Mapping[str, Any] | None, n: int, generator: np.random.Generator) -> list[dict[str, Any]]:
    """Draw how each of n maps is turned and flipped: what :func:`turned` takes.

    Parameters
    ----------
    augmentation : mapping or None
        ``quarter_turns`` and ``flip`` (``none``, ``horizontal``, ``both``) of a recipe.
    n : int
    generator : numpy.random.Generator
    """
    wanted = augmentation or {}
    turns, flips = generator.integers(0, 4, n), generator.integers(0, 2, (n, 2)).astype(bool)
    n_flips = {"none": 0, "horizontal": 1, "both": 2}[wanted.get("flip") or "none"]
    return [
        {
            "quarter_turns": int(turn) if wanted.get("quarter_turns") else 0,
            "left_right": bool(flip[0]) and n_flips > 0,
            "up_down": bool(flip[1]) and n_flips > 1,
        }
        for turn, flip in zip(turns, flips, strict=True)
    ]


def batches(
    cells: FeatureCells | PictureCells,
    maps: Maps,
    augmentation: Mapping[str, Any] | None,
    rows: np.ndarray,
    batch: int,
    generator: np.random.Generator | None,
) -> Generator[tuple[np.ndarray, np.ndarray], None, None]:
    """Yield maps and their labels to train on, as :class:`epochs.Learner` reads them.

    Parameters
    ----------
    cells : FeatureCells or PictureCells
    maps : Maps
    augmentation : mapping or None
        A recipe's.
    rows : ndarray of int
        Maps, in the order wanted.
    batch : int
    generator : numpy.random.Generator or None
        Of the epoch; None varies nothing.
    """
    turns = draw_turns(None if generator is None else augmentation, len(rows), generator or np.random.default_rng(0))
    fill = slide_images.GLASS if isinstance(cells, PictureCells) else 0

    def made(start: int) -> tuple[np.ndarray, np.ndarray]:
        own = [(maps.trained[k], turn) for k, turn in zip(rows[start : start + batch], turns[start:], strict=False)]
        return padded(
            [turned(cells.map(piece), **turn) for piece, turn in own],
            [turned(feature_maps.label_map(maps.label[piece.rows], piece), **turn) for piece, turn in own],
            fill,
        )

    # a batch is made while the one before it is computed
    with ThreadPoolExecutor(1) as pool:
        pending = deque([pool.submit(made, 0)] if len(rows) else [])
        for start in range(batch, len(rows) + batch, batch):
            if start < len(rows):
                pending.append(pool.submit(made, start))
            yield pending.popleft().result()


class Predictor:
    """What a network says about the tiles of maps, as the network is when it is asked.

    Parameters
    ----------
    evaluated : keras.Model
        From maps to logits.
    cells : FeatureCells or PictureCells
    maps : Maps
    batch : int
        Most maps that are predicted together; maps of one size are, so that none depends on another's size.
    """

    def __init__(self, evaluated: Any, cells: FeatureCells | PictureCells, maps: Maps, batch: int) -> None:
        self._cells, self._maps, self._batch = cells, maps, batch
        self._forward = backends.compiled_forward(evaluated, 0, batch=batch)
        self._n_classes = int(evaluated.outputs[0].shape[-1])
        self._map_of = np.empty(len(maps.label), np.int64)
        for k, piece in enumerate(maps.whole):
            self._map_of[piece.rows] = k

    def evaluate(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return logits and true classes of the tiles of some maps that count: see :class:`epochs.Learner`."""
        tiles = np.concatenate([np.empty(0, np.int64), *(self._maps.whole[k].rows for k in rows)])
        tiles = tiles[self._maps.label[tiles] != NO_LABEL]
        return self.logits(tiles), self._maps.label[tiles].astype(np.int64)

    def logits(self, tiles: np.ndarray) -> np.ndarray:
        """Return the logits of some tiles of the table, float64 (n, n_classes)."""
        found = np.empty((len(self._maps.label), self._n_classes))
        needed = np.unique(self._map_of[tiles])
        sizes = np.array([self._maps.whole[k].size for k in needed])
        for size in np.unique(sizes):
            alike = needed[sizes == size]
            for start in range(0, len(alike), self._batch):
                pieces = [self._maps.whole[k] for k in alike[start : start + self._batch]]
                [logits] = self._forward(np.stack([self._cells.map(piece) for piece in pieces]))
                for piece, own in zip(pieces, logits, strict=True):
                    found[piece.rows] = feature_maps.gather(own, piece)
        return found[tiles]


class _MapStep:
    """A step of training on maps, which is told by labelled cells, not by maps."""

    def __init__(self, step: backends.TrainStep) -> None:
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

    def compile_step(*, groups: Sequence[str], **moved: Any) -> backends.TrainStep:
        return _MapStep(backends.compiled_train_step(network.unet, prepare=prepare, loss=unet.step_loss, **moved))

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
    arithmetic_threads: int = heads.THREADS,
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
    rows = training_results.rows_of_sets(
        table, split, split_seed=split_seed, master_seed=master_seed, sampling=recipe.get("sampling", "all")
    )
    training_results.check_sets(table, rows, split_file)
    maps = lay_out(table, rows, canvas=canvas, multiple=multiple)
    write_canvases(canvases, maps, name=name)
    # what is wrong with the tiles is said before a network is built
    epochs.check_tiles(labels=maps.label, rows=maps.tiles, recipe=recipe, classes=classes)
    backends.set_threads(arithmetic_threads)
    backends.set_deterministic()
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
            "backend": backends.name(),
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
    training_results.write_network_predictions(
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
    training_results.write_history(history, outcome)
    training_results.write_curve(curve, outcome)
    training_results.save_network(model, network.model)
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
