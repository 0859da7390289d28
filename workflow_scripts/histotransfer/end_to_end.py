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
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from histotransfer import (
    augmentation,
    backends,
    checkpoints,
    epochs,
    feature_maps,
    heads,
    networks,
    optimisation,
    provenance,
    seeds,
    store,
    tile_stream,
    tile_table,
    training_results,
    unet,
)
from histotransfer.feature_maps import Piece
from histotransfer.segmentation import Network, Predictor, attach, lay_out, load, write_canvases

log = logging.getLogger("histotransfer")

#: The groups of weights that have rates of their own.
EXTRACTOR, UNET = "extractor", "unet"
#: Columns of ``moved.tsv``: one row an epoch and group. The shares are of float32 weights that have other bits than
#: before: after a step (mean, least and most over the steps of the epoch), and since the start by the epoch's end.
MOVED = ("epoch", "group", "weights", "steps", "step_mean", "step_least", "step_most", "since_start")
#: Mini-batches that the device may have before it: more would be more memory, however large the map.
_IN_FLIGHT = 2


@dataclass(frozen=True)
class Extractor:
    """A trained network up to one of its layers.

    Attributes
    ----------
    trained : keras.Model
        From preprocessed tiles, float32 (n, px, px, 3), to vectors, float32 (n, d).
    evaluated : keras.Model
        From stored tiles, uint8 (n, px_stored, px_stored, 3), to the same vectors.
    prepare : callable
        ``prepare(stored, drawn)``: from stored tiles to what `trained` takes, varied as drawn.
    px, px_stored, n_features : int
    """

    trained: Any
    evaluated: Any
    prepare: Callable[[Any, Mapping[str, Any]], Any]
    px: int
    px_stored: int
    n_features: int


def build_extractor(path: str, *, start: Mapping[str, Any], layer: str | None) -> Extractor:
    """Load a trained network and leave out what lies above a layer: its output layer is of no use (section 3.2.2).

    Parameters
    ----------
    path : path
        ``model.keras`` of :func:`histotransfer.training.train_network`.
    start : mapping
        What its training began from, as :func:`networks.specification` takes it.
    layer : str or None
        A dense layer of its head (``head_1``), or a cut point, whose averages are taken; None: the start's own.

    Returns
    -------
    Extractor
        In float32, whatever the network was trained in.

    Raises
    ------
    ValueError
        If the file is refused, or the network has no such layer.
    OSError
        If it cannot be read.
    """
    import keras

    model = networks.load_trained(path)
    spec = networks.specification(start)
    layer = layer or spec.layer
    try:
        # the image layers, the part of the trunk that is needed, and more
        _, image, part, *_ = networks.trained_features(model, spec, names=[layer]).layers
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    # its last output is the cut point, or what the head takes
    trunk = keras.Model(part.input, part.outputs[-1], name="trunk")
    given = keras.Input(trunk.input_shape[1:], name="preprocessed")
    vectors = trunk(given)
    names = [one.name for one in model.layers]
    if layer in names:
        for one in model.layers[names.index("trunk") + 1 : names.index(layer) + 1]:
            vectors = one(vectors)
    elif len(vectors.shape) == 4:
        vectors = keras.layers.GlobalAveragePooling2D(name="pool", dtype="float32")(vectors)
    trained = keras.Model(given, vectors, name=EXTRACTOR)
    tiles = keras.Input(model.input_shape[1:], dtype="uint8", name="tiles")
    preprocess = _without_crop(image)
    px = int(trunk.input_shape[1])

    def prepare(stored: Any, drawn: Mapping[str, Any]) -> Any:
        return preprocess(augmentation.apply(stored, drawn, px=px))

    return Extractor(
        trained=trained,
        evaluated=keras.Model(tiles, trained(image(tiles)), name="trained-extractor"),
        prepare=prepare,
        px=px,
        px_stored=int(model.input_shape[1]),
        n_features=int(vectors.shape[-1]),
    )


def _without_crop(image: Any) -> Any:
    """Return the image layers of a network from grey values in float32 on, after the crop: with the very same means."""
    import keras

    cast = next(operation for operation in image.operations if type(operation).__name__ == "Cast")
    return keras.Model(cast.output, image.output)


class MapFound(NamedTuple):
    """What a map came to.

    Attributes
    ----------
    told : tensor of float32, shape (4,)
        Mean and sum of the labelled cells' losses, cells predicted correctly, labelled cells.
    by_extractor, by_unet : list of tensors
        The gradients of the mean by each of the two networks' trained weights, in their order.
    vectors, by_vectors : ndarray of float32, shape (n, d)
        What was kept between the passes: x and dL/dx.
    """

    told: Any
    by_extractor: list[Any]
    by_unet: list[Any]
    vectors: np.ndarray
    by_vectors: np.ndarray


class MapGradients:
    """The loss of a map and its gradients by the weights of both networks, by the five steps.

    Parameters
    ----------
    extractor : Extractor
    logits : keras.Model
        From maps, float32 (n, h, w, d + 1) (the last plane is 1 where a tile is), to logits, float32 (n, h, w,
        n_classes).
    tiles : TilePixels
        What reads the tiles.
    varied : mapping or None
        The recipe's augmentation of tiles.
    batch : int
        Tiles of a mini-batch.
    """

    def __init__(
        self,
        *,
        extractor: Extractor,
        logits: Any,
        tiles: tile_stream.TilePixels,
        varied: Mapping[str, Any] | None,
        batch: int,
    ) -> None:
        self._extractor, self._tiles, self._varied, self._batch = extractor, tiles, varied, batch
        self._forward = backends.compiled_prepared_forward(extractor.trained, prepare=extractor.prepare, batch=batch)
        self._backward = backends.compiled_gradients(
            extractor.trained, objective=_inner_product, prepare=extractor.prepare, batch=batch
        )
        self._segment = backends.compiled_gradients(logits, objective=_map_loss, batch=1, by_input=True)
        self._has_weights = bool(extractor.trained.trainable_variables)

    def __call__(self, piece: Piece, labels: np.ndarray, places: np.ndarray, seed: int) -> MapFound:
        """Take one map through the five steps; the weights stay.

        Parameters
        ----------
        piece : Piece
        labels : ndarray of int32, shape (size, size)
            -1 without a label.
        places : ndarray of int, shape (n,)
            Where the tiles of ``piece.rows`` are among the pixels.
        seed : int
            Of what varies the tiles: the same in both passes.
        """
        vectors = self._vectors(places, seed)
        canvas = canvas_of(vectors, piece)[None]
        by_unet, told, by_canvas = self._segment(self._segment.zeros(), canvas, {"labels": labels[None]}, {})
        by_vectors = feature_maps.gather(backends.to_array(by_canvas)[0, ..., :-1], piece)
        by_extractor = self._by_extractor(places, seed, by_vectors) if self._has_weights else []
        return MapFound(told, by_extractor, by_unet, vectors, by_vectors)

    def _vectors(self, places: np.ndarray, seed: int) -> np.ndarray:
        waiting: deque[Any] = deque()
        found = []
        for block, drawn in self._blocks(places, seed):
            waiting.append(self._forward(block, drawn))
            if len(waiting) > _IN_FLIGHT:
                found.append(backends.to_array(waiting.popleft()))
        return np.concatenate([*found, *map(backends.to_array, waiting)])

    def _by_extractor(self, places: np.ndarray, seed: int, by_vectors: np.ndarray) -> list[Any]:
        waiting: deque[Any] = deque()
        total, done = self._backward.zeros(), 0
        for block, drawn in self._blocks(places, seed):
            kept = by_vectors[done : done + len(block)]
            done += len(block)
            total, told, _ = self._backward(total, block, {"kept": kept}, drawn)
            waiting.append(told)
            if len(waiting) > _IN_FLIGHT:
                backends.to_array(waiting.popleft())
        return total

    def _blocks(self, places: np.ndarray, seed: int) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Yield the tiles of a map by mini-batches, and what varies them: the same at each call."""
        px_stored, px = self._extractor.px_stored, self._extractor.px
        with closing(tile_stream.stream(self._tiles, places, self._batch)) as blocks:
            for number, (_, block) in enumerate(blocks):
                generator = np.random.default_rng([seed, number])
                yield (
                    block,
                    augmentation.draw(self._varied, n=len(block), px_stored=px_stored, px=px, generator=generator),
                )


def canvas_of(vectors: np.ndarray, piece: Piece) -> np.ndarray:
    """Return what the U-Net takes of a map: its vectors on their cells, and a plane of where they are.

    Returns
    -------
    ndarray of float32, shape (size, size, d + 1)
    """
    here = np.ones((len(vectors), 1), np.float32)
    return feature_maps.place(np.concatenate([vectors, here], axis=1), piece)


def _inner_product(outputs: Sequence[Any], given: Mapping[str, Any]) -> tuple[Any]:
    """Return L', equation 3."""
    from keras import ops

    return (ops.sum(outputs[0] * given["kept"]),)


def _map_loss(outputs: Sequence[Any], given: Mapping[str, Any]) -> tuple[Any, Any, Any, Any]:
    return unet.cell_loss(outputs[0], given["labels"])


class Movement:
    """What share of the weights steps moved.

    At the paper's rate of 1e-9 the change of most float32 weights is less than half the distance to the next number
    that float32 has, so they stay.

    Parameters
    ----------
    variables : mapping of str to sequence of keras.Variable
        The weights of each group, as they are at the start.
    """

    def __init__(self, variables: Mapping[str, Sequence[Any]]) -> None:
        self._variables = {group: list(own) for group, own in variables.items()}
        self._start = {group: [_bits(one) for one in own] for group, own in variables.items()}
        self._counts: list[dict[str, int]] = []

    def add(self, counts: Mapping[str, int]) -> None:
        """Take in how many weights of each group a step moved; of a group that is not trained, none."""
        self._counts.append(dict(counts))

    def rows(self, epoch: int) -> list[dict[str, Any]]:
        """Return the rows of :data:`MOVED` of the epoch that has just ended, and begin anew."""
        found = []
        for group, own in self._variables.items():
            n = sum(int(np.prod(one.shape)) for one in own)
            steps = np.array([counts.get(group, 0) for counts in self._counts]) / n
            now = [_bits(one) for one in own]
            changed = sum(int((a != b).sum()) for a, b in zip(now, self._start[group], strict=True))
            found.append(
                {
                    **{"epoch": epoch, "group": group, "weights": n, "steps": len(steps)},
                    **{"step_mean": float(steps.mean()), "step_least": float(steps.min())},
                    **{"step_most": float(steps.max()), "since_start": changed / n},
                }
            )
        self._counts = []
        return found


def _bits(variable: Any) -> np.ndarray:
    return backends.to_array(variable.value).view(np.int32)


class MapStep:
    """One step of training a map, in the form of :class:`backends.TrainStep`.

    Its inputs are the number of a map, int (1,); what is drawn is the seed of what varies its tiles, ``seed`` of shape
    (1,).

    Parameters
    ----------
    gradients : MapGradients
    maps : callable
        ``maps(number)``: what `gradients` takes of a map, without the seed.
    trained : sequence of keras.Variable
        What the gradients of a :class:`MapFound` are by: the extractor's and then the U-Net's trained weights.
    weights, groups, slots, update
        As :func:`backends.compiled_update` takes them; `weights` are those of `trained`, in any order.
    movement : Movement
    """

    def __init__(
        self,
        *,
        gradients: MapGradients,
        maps: Callable[[int], tuple[Piece, np.ndarray, np.ndarray]],
        trained: Sequence[Any],
        weights: Sequence[Any],
        groups: Sequence[str],
        slots: Sequence[Sequence[Any]],
        update: Callable[..., Any],
        movement: Movement,
    ) -> None:
        self._gradients, self._maps, self._movement = gradients, maps, movement
        place = {id(variable): k for k, variable in enumerate(trained)}
        self._order = [place[id(variable)] for variable in weights]
        self._names = list(dict.fromkeys(groups))
        self._move = backends.compiled_update(weights=weights, slots=slots, update=update, groups=groups)
        self._waiting: list[tuple[int, Any, Any]] = []

    def __call__(
        self,
        inputs: np.ndarray,
        labels: None,
        drawn: Mapping[str, np.ndarray],
        *,
        number: int,
        size: float,
        rate: float,
    ) -> None:
        """Make one step: see :class:`backends.TrainStep`."""
        found = self._gradients(*self._maps(int(inputs[0])), int(drawn["seed"][0]))
        both = [*found.by_extractor, *found.by_unet]
        counts = self._move([both[k] for k in self._order], size, rate)
        self._waiting.append((number, found.told, counts))

    def tally(self) -> np.ndarray:
        """Return what was counted, over labelled cells: see :class:`backends.TrainStep`."""
        # float64: whole numbers of cells beyond 2 ** 24
        total = np.zeros(4)
        for number, told, counts in self._waiting:
            mean, summed, correct, n = backends.to_array(told).tolist()
            total[:3] += summed, correct, n
            if not total[3] and not np.isfinite(mean):
                total[3] = number
            self._movement.add(dict(zip(self._names, backends.to_array(counts).tolist(), strict=True)))
        self._waiting = []
        return total

    def settle(self) -> None:
        """Nothing is left to do: a step moves the variables of Keras themselves."""


class ExtractedCells:
    """Maps of the vectors that an extractor, as it is when it is asked, makes of tiles in the middle of stored ones.

    Parameters
    ----------
    extractor : Extractor
    tiles : TilePixels
    place : ndarray of int, shape (n_tiles,)
        Where each tile of the table is among the pixels.
    batch : int
        Tiles of a pass.
    """

    def __init__(self, extractor: Extractor, tiles: tile_stream.TilePixels, place: np.ndarray, batch: int) -> None:
        self._tiles, self._place, self._batch = tiles, place, batch
        self._forward = backends.compiled_forward(extractor.evaluated, extractor.px_stored, batch=batch)

    def map(self, piece: Piece) -> np.ndarray:
        """Return a map: see :func:`canvas_of`."""
        with closing(tile_stream.stream(self._tiles, self._place[piece.rows], self._batch)) as blocks:
            return canvas_of(np.concatenate([self._forward(block)[0] for _, block in blocks]), piece)


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
    arithmetic_threads: int = heads.THREADS,
    code: str = "",
) -> None:
    """Go on with the training of a network of tiles and a U-Net on its vectors, both together, and predict.

    A training that was interrupted goes on from its last finished epoch and comes to the same weights.

    Parameters
    ----------
    pixels : sequence of path
        Pixel files of the dataset, at the size that the extractor's recipe crops from, or its input size.
    extractor : path
        ``model.keras`` of :func:`histotransfer.training.train_network`.
    segmentation : path
        ``model.keras`` of :func:`histotransfer.segmentation.train_unet` on its vectors. By what these were standardised
        there, they are here too.
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
    spec = networks.specification(start)
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
    trained_groups = set().union(*(optimisation.group_factors([EXTRACTOR, UNET], phase) for phase in recipe["phases"]))
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
    training_results.write_history(history, outcome)
    training_results.write_curve(curve, outcome)
    store.write_table(moved, MOVED, outcome.notes)
    training_results.save_network(trained_extractor, pair.extractor.evaluated)
    training_results.save_network(model, pair.segmentation.model)
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
