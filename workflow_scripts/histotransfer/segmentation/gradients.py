"""Gradients of a slide's map with respect to its tiles, by batches of tiles."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np

from histotransfer.backends import compiled, shared
from histotransfer.definitions import Augmentation
from histotransfer.segmentation import feature_maps, unet
from histotransfer.segmentation.extractor import Extractor
from histotransfer.segmentation.feature_maps import Piece
from histotransfer.segmentation.movement import Movement
from histotransfer.tables import tile_pixels
from histotransfer.training import augmentation

#: Mini-batches that the device may have before it: more would be more memory, however large the map.
_IN_FLIGHT = 2


class MapResult(NamedTuple):
    """Loss and gradients of a map.

    Attributes
    ----------
    scores : tensor of float32, shape (4,)
        Mean and sum of the labelled cells' losses, cells predicted correctly, labelled cells.
    by_extractor, by_unet : list of tensors
        The gradients of the mean by each of the two networks' trained weights, in their order.
    vectors, by_vectors : ndarray of float32, shape (n, d)
        What was kept between the passes: x and dL/dx.
    """

    scores: Any
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
    varied : Augmentation or None
        Of tiles.
    batch : int
        Tiles of a mini-batch.
    """

    def __init__(
        self,
        *,
        extractor: Extractor,
        logits: Any,
        tiles: tile_pixels.TilePixels,
        varied: Augmentation | None,
        batch: int,
    ) -> None:
        self._extractor, self._tiles, self._varied, self._batch = extractor, tiles, varied, batch
        self._forward = compiled.compiled_prepared_forward(extractor.trained, prepare=extractor.prepare, batch=batch)
        self._backward = compiled.compiled_gradients(
            extractor.trained, objective=_inner_product, prepare=extractor.prepare, batch=batch
        )
        self._segment = compiled.compiled_gradients(logits, objective=_map_loss, batch=1, by_input=True)
        self._has_weights = bool(extractor.trained.trainable_variables)

    def __call__(self, piece: Piece, labels: np.ndarray, places: np.ndarray, seed: int) -> MapResult:
        """Take one map through the five steps; the weights stay.

        Parameters
        ----------
        piece : Piece
        labels : ndarray of int32, shape (size, size)
            -1 without a label.
        places : ndarray of int, shape (n,)
            Where the tiles of ``piece.rows`` are among the pixels.
        seed : int
            Of the random numbers that vary the tiles: the same in both passes.
        """
        vectors = self._vectors(places, seed)
        canvas = feature_maps.canvas_of(vectors, piece)[None]
        by_unet, scores, by_canvas = self._segment(self._segment.zeros(), canvas, {"labels": labels[None]}, {})
        by_vectors = feature_maps.gather(shared.to_array(by_canvas)[0, ..., :-1], piece)
        by_extractor = self._by_extractor(places, seed, by_vectors) if self._has_weights else []
        return MapResult(scores, by_extractor, by_unet, vectors, by_vectors)

    def _vectors(self, places: np.ndarray, seed: int) -> np.ndarray:
        waiting: deque[Any] = deque()
        vectors = []
        for block, drawn in self._blocks(places, seed):
            waiting.append(self._forward(block, drawn))
            if len(waiting) > _IN_FLIGHT:
                vectors.append(shared.to_array(waiting.popleft()))
        return np.concatenate([*vectors, *map(shared.to_array, waiting)])

    def _by_extractor(self, places: np.ndarray, seed: int, by_vectors: np.ndarray) -> list[Any]:
        waiting: deque[Any] = deque()
        total, done = self._backward.zeros(), 0
        for block, drawn in self._blocks(places, seed):
            kept = by_vectors[done : done + len(block)]
            done += len(block)
            total, product, _ = self._backward(total, block, {"kept": kept}, drawn)
            waiting.append(product)
            if len(waiting) > _IN_FLIGHT:
                shared.to_array(waiting.popleft())
        return total

    def _blocks(self, places: np.ndarray, seed: int) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Yield the tiles of a map by mini-batches, with the numbers that vary them: the same at each call."""
        px_stored, px = self._extractor.px_stored, self._extractor.px
        with closing(tile_pixels.stream(self._tiles, places, self._batch)) as blocks:
            for number, (_, block) in enumerate(blocks):
                generator = np.random.default_rng([seed, number])
                yield (
                    block,
                    augmentation.draw(self._varied, n=len(block), px_stored=px_stored, px=px, generator=generator),
                )


def _inner_product(outputs: Sequence[Any], given: Mapping[str, Any]) -> tuple[Any]:
    """Return L', equation 3."""
    from keras import ops

    return (ops.sum(outputs[0] * given["kept"]),)


def _map_loss(outputs: Sequence[Any], given: Mapping[str, Any]) -> tuple[Any, Any, Any, Any]:
    return unet.cell_loss(outputs[0], given["labels"])


class MapStep:
    """One step of training a map, in the form of :class:`histotransfer.backends.protocols.TrainStep`.

    Its inputs are the number of a map, int (1,); what is drawn is the seed of the numbers that vary its tiles, ``seed``
    of shape (1,).

    Parameters
    ----------
    gradients : MapGradients
    maps : callable
        ``maps(number)``: the arguments of `gradients` for a map, without the seed.
    trained : sequence of keras.Variable
        The weights that a :class:`MapResult` has gradients of: the extractor's, then the U-Net's.
    weights, groups, slots, update
        As :func:`histotransfer.backends.compiled.compiled_update` takes them; `weights` are those of `trained`, in any
        order.
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
        self._move = compiled.compiled_update(weights=weights, slots=slots, update=update, groups=groups)
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
        """Make one step: see :class:`histotransfer.backends.protocols.TrainStep`."""
        result = self._gradients(*self._maps(int(inputs[0])), int(drawn["seed"][0]))
        both = [*result.by_extractor, *result.by_unet]
        counts = self._move([both[k] for k in self._order], size, rate)
        self._waiting.append((number, result.scores, counts))

    def tally(self) -> np.ndarray:
        """Return what was counted, over labelled cells: see :class:`histotransfer.backends.protocols.TrainStep`."""
        # float64: whole numbers of cells beyond 2 ** 24
        total = np.zeros(4)
        for number, scores, counts in self._waiting:
            mean, summed, correct, n = shared.to_array(scores).tolist()
            total[:3] += summed, correct, n
            if not total[3] and not np.isfinite(mean):
                total[3] = number
            self._movement.add(dict(zip(self._names, shared.to_array(counts).tolist(), strict=True)))
        self._waiting = []
        return total

    def settle(self) -> None:
        """Do nothing: a step moves the variables of Keras themselves."""
