"""Grad-CAM: where in a tile a trained network finds what speaks for the class that it predicts.

References
----------
Selvaraju RR, Cogswell M, Das A, Vedantam R, Parikh D, Batra D (2017). Grad-CAM: visual explanations from deep networks
via gradient-based localization. ICCV: equations 1 and 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from histotransfer import canvas, seeds
from histotransfer.canvas import SMALL, TEXT, WIDTH
from histotransfer.predictions import NO_LABEL, Predictions, read_predictions
from histotransfer.problems import counted, listing

#: Tiles of a batch: what lies in memory at a time are their maps.
BATCH = 8

#: Colours of a map (equal steps look equal, also without colour vision), and their weight over the grey tile.
COLOURS, WEIGHT = "inferno", 0.55

#: Side of a picture in pixels: twice what a laptop shows.
SIDE = 192


def explain(model: Any, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the Grad-CAM map of the class that a network predicts, tile by tile.

    Parameters
    ----------
    model : keras.Model
        From uint8 tiles to probabilities, one layer after the other; with the layers ``trunk`` (a model) and
        ``logits``, as training writes it. Its weights stay, and its layers are frozen.
    tiles : ndarray of shape (n, px, px, 3), uint8

    Returns
    -------
    maps : ndarray of shape (n, rows, columns), float32
        Not below 0, in units of the logit; on the grid of the trunk's last maps.
    predicted : ndarray of shape (n,), int64
    probability : ndarray of shape (n, n_classes), float64

    Raises
    ------
    ValueError
        If the network has no such layers, or no maps.

    Notes
    -----
    For the class c with the highest score y_c, before the softmax, and maps A_k of Z places, Selvaraju et al. (2017)
    weigh each map by alpha_k = 1/Z sum_ij dy_c/dA_k_ij (equation 1), and show ReLU(sum_k alpha_k A_k) (equation 2).
    ASSUME the maps are the deepest of the trunk that have more than one place: those that the head pools, or that the
    first dense layer takes.

    Keras gives no gradients by itself, yet trains weights: a weight of 0, added to every place of a map, has the
    gradient sum_ij dy_c/dA_k_ij, and one step of plain descent at the rate 1 makes it minus that. The step is the same
    on every backend. Dropout is off, and batch normalisation as in prediction.
    """
    import keras

    before, trunk, above = _parts(model)
    taken = _last_maps(trunk)
    tile = keras.Input(tiles.shape[1:], dtype="uint8")
    lower = keras.Model(tile, keras.Model(trunk.input, taken)(_through(before, tile)))
    top = _top(trunk, taken, above)
    rows, columns, n_maps = (int(size) for size in taken.shape[1:])
    added, stepped = _stepped(top, rows, columns, n_maps)
    maps, logits = [], []
    for start in range(0, len(tiles), BATCH):
        block = tiles[start : start + BATCH]
        n = len(block)
        # one size of batch, so that one step serves all
        block = np.concatenate([block, np.repeat(block[-1:], BATCH - n, axis=0)])
        found = _numpy(lower.predict_on_batch(block))
        scores = _numpy(top.predict_on_batch(found))
        chosen = np.eye(scores.shape[1], dtype=np.float32)[scores.argmax(axis=1)]
        added.assign(np.zeros(added.shape, np.float32))
        stepped.train_on_batch(found, chosen)
        alpha = -_numpy(added)[:, 0, 0] / (rows * columns)
        maps.append(np.maximum(np.einsum("nijk,nk->nij", found, alpha), 0)[:n])
        logits.append(scores[:n].astype(np.float64))
    score = np.concatenate(logits)
    power = np.exp(score - score.max(axis=1, keepdims=True))
    return np.concatenate(maps), score.argmax(axis=1), power / power.sum(axis=1, keepdims=True)


def _numpy(value: Any) -> np.ndarray:
    import keras

    return np.array(keras.ops.convert_to_numpy(value)).astype(np.float32)


def _parts(model: Any) -> tuple[list[Any], Any, list[Any]]:
    """Return the layers before the trunk, the trunk, and those above it up to the logits."""
    import keras

    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    names = [layer.name for layer in layers]
    if "trunk" not in names or "logits" not in names or names.index("trunk") > names.index("logits"):
        raise ValueError(f"Grad-CAM takes a network with the layers trunk and logits; found {listing(names)}")
    first, last = names.index("trunk"), names.index("logits")
    return layers[:first], layers[first], layers[first + 1 : last + 1]


def _last_maps(trunk: Any) -> Any:
    """Return the deepest output of the trunk's layers that has more than one place and that all above it come from."""
    import keras

    end = _end(trunk)
    tensors = [layer.output for layer in trunk.layers if not isinstance(layer.output, (list, tuple))]
    maps = [one for one in tensors if len(one.shape) == 4 and int(one.shape[1]) * int(one.shape[2]) > 1]
    # the first layer is the input
    for taken in reversed(maps[1:]):
        try:
            if taken is not end:
                keras.Model(taken, end)
        except ValueError:
            # one of several branches, as in a block of Inception: what is above does not follow from it alone
            continue
        return taken
    raise ValueError(f"Grad-CAM takes a trunk with maps of more than one place; found none in {trunk.name}")


def _end(trunk: Any) -> Any:
    return trunk.output[0] if isinstance(trunk.output, (list, tuple)) else trunk.output


def _through(layers: Sequence[Any], x: Any) -> Any:
    for layer in layers:
        x = layer(x)
    return x


def _top(trunk: Any, taken: Any, above: Sequence[Any]) -> Any:
    """Return the model from the trunk's last maps to the logits."""
    import keras

    end = _end(trunk)
    maps = keras.Input(taken.shape[1:])
    x = maps if end is taken else keras.Model(taken, end)(maps)
    return keras.Model(maps, _through(above, x))


def _stepped(top: Any, rows: int, columns: int, n_maps: int) -> tuple[Any, Any]:
    """Return a weight for each map of a batch, and the model that adds it to the maps and learns nothing else."""
    import keras

    class Added(keras.layers.Layer):
        """Adds a weight to every place of each map, then gives the logits as in prediction."""

        def __init__(self) -> None:
            super().__init__(dtype="float32")
            self.weight = self.add_weight(shape=(BATCH, 1, 1, n_maps), initializer="zeros", name="added")
            self.top = top

        def call(self, maps: Any) -> Any:
            return self.top(maps + self.weight, training=False)

    layer = Added()
    maps = keras.Input((rows, columns, n_maps), batch_size=BATCH)
    top.trainable = False
    stepped = keras.Model(maps, layer(maps))
    stepped.compile(
        optimizer=keras.optimizers.SGD(1.0),
        loss=lambda chosen, scores: keras.ops.sum(chosen * keras.ops.cast(scores, "float32")),
        jit_compile=False,
        auto_scale_loss=False,
    )
    return layer.weight, stepped


def draw(
    *,
    model: str,
    predictions: str,
    pixels: Sequence[str],
    picture: str,
    per_class: int,
    master_seed: int,
    threads: int = 0,
) -> str:
    """Draw what a trained network looks at: test tiles of each class, each beside its Grad-CAM map.

    Parameters
    ----------
    model : path
        ``model.keras``.
    predictions : path
        Of the same network: names the test tiles and their classes.
    pixels : sequence of path
        The pixel files that the network was trained and tested on; only the tiles that are drawn are read.
    picture : path
        SVG to write.
    per_class : int
        Tiles of each class, at most. They are drawn at random, the same ones for every network of a split and seed.
    master_seed : int
    threads : int
        Of the backend; 0: as it likes.

    Returns
    -------
    str
        What the picture shows.

    Raises
    ------
    ValueError
        If the model is refused, is of another form, or has other classes, or a test tile has no pixels.
    """
    from histotransfer.backends import process
    from histotransfer.networks import trained
    from histotransfer.tables import tile_pixels

    held_out, _, said = read_predictions(predictions)
    chosen = choose(held_out, said, per_class=per_class, master_seed=master_seed)
    if not chosen:
        return canvas.draw_nothing(picture, "No test tile has a label.")
    stored = tile_pixels.open_tiles(pixels)
    place = {key: row for row, key in enumerate(zip(stored.image, stored.tile, strict=True))}
    names = [(held_out.image[row], held_out.tile[row]) for row in chosen]
    absent = [name for name in names if name not in place]
    if absent:
        image, tile = absent[0]
        raise ValueError(
            f"{predictions}: every test tile must be in the pixel files; {len(absent)} of {len(names)} are not, the "
            f"first is tile {tile!r} of image {image!r}"
        )
    tiles = stored.read(np.array([place[name] for name in names]))
    process.set_deterministic()
    process.set_threads(threads)
    network = trained.load_trained(model)
    maps, predicted, probability = explain(network, tiles)
    classes = said["classes"]
    if probability.shape[1] != len(classes):
        raise ValueError(f"{model}: must tell {len(classes)} classes apart; found {probability.shape[1]}")
    seen = _centre(tiles, int(network.get_layer("trunk").input.shape[1]))
    true = held_out.true[chosen].astype(np.int64)
    shares = probability[np.arange(len(chosen)), predicted]
    right = int((predicted == true).sum())
    statement = (
        f"{said['features']}: {counted(len(chosen), 'test tile')}, {right} of them right, each beside where the "
        f"network finds what speaks for the class that it predicts (Grad-CAM, {maps.shape[1]} x {maps.shape[2]} "
        "places, smoothed)."
    )
    samples = [
        Sample(tile, overlay(tile, one), classes[k], float(share), k == own)
        for tile, one, k, share, own in zip(seen, maps, predicted.tolist(), shares, true.tolist(), strict=True)
    ]
    by_class = {
        classes[k]: [one for one, own in zip(samples, true, strict=True) if own == k] for k in sorted(set(true))
    }
    draw_samples(by_class, picture, statement)
    return statement


def choose(held_out: Predictions, said: Mapping[str, Any], *, per_class: int, master_seed: int) -> list[int]:
    """Return the rows of the tiles that are drawn, class by class."""
    factors = [said[name] for name in ("dataset", "task", "split", "seed")]
    labelled = np.flatnonzero(held_out.true != NO_LABEL).tolist()
    ranked = sorted(
        labelled,
        key=lambda row: seeds.unit_hash(master_seed, "grad-cam", *factors, held_out.image[row], held_out.tile[row]),
    )
    of_class = [[row for row in ranked if held_out.true[row] == k] for k in range(len(said["classes"]))]
    return [row for rows in of_class for row in rows[:per_class]]


def _centre(tiles: np.ndarray, px: int) -> np.ndarray:
    """Return the part of stored tiles that the network sees."""
    before = (tiles.shape[1] - px) // 2
    return tiles[:, before : before + px, before : before + px]


def overlay(tile: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return a tile in grey under the colours of its map: dark where nothing speaks for the class, to bright yellow.

    Parameters
    ----------
    tile : ndarray of shape (px, px, 3), uint8
    found : ndarray of shape (rows, columns), float
        Not below 0; shown in shares of its highest value.

    Returns
    -------
    ndarray of shape (px, px, 3), uint8
    """
    import matplotlib
    from PIL import Image

    highest = float(found.max())
    share = found / highest if highest > 0 else found
    px = tile.shape[0]
    smooth = Image.fromarray(share.astype(np.float32), mode="F").resize((px, px), Image.Resampling.BILINEAR)
    share = np.clip(np.asarray(smooth), 0, 1)
    colours = matplotlib.colormaps[COLOURS](share)[..., :3] * 255
    grey = np.asarray(Image.fromarray(tile).convert("L"), dtype=np.float64)[..., None]
    return np.rint((1 - WEIGHT) * grey + WEIGHT * colours).astype(np.uint8)


@dataclass(frozen=True)
class Sample:
    """A tile and its map, and what the network makes of it.

    Attributes
    ----------
    tile, overlay : ndarray of shape (px, px, 3), uint8
    predicted : str
        The class.
    probability : float
        Of that class.
    right : bool
    """

    tile: np.ndarray
    overlay: np.ndarray
    predicted: str
    probability: float
    right: bool


def draw_samples(by_class: Mapping[str, Sequence[Sample]], picture: str | Path, statement: str) -> None:
    """Draw tiles beside their maps, two of them in a row, under the name of their true class.

    Parameters
    ----------
    by_class : mapping
        True class to its samples.
    picture : path
        SVG to write.
    statement : str
        What it shows.
    """
    from PIL import Image

    between, gap, side = 12.0, 3.0, (WIDTH - 8 - 12 - 2 * 3) / 4
    pitch = 2 * side + gap + between
    words = [
        (canvas.wrap(f"true class: {name}", WIDTH - 8, TEXT, lines=2, bold=True), samples)
        for name, samples in by_class.items()
    ]
    insets, texts, top = [], [], _scale_height()
    for heading, samples in words:
        texts.append((heading, 4.0, top, {"weight": "bold"}))
        top += 12.5 * (heading.count("\n") + 1) + 3
        for first in range(0, len(samples), 2):
            lines = 1
            for column, one in enumerate(samples[first : first + 2]):
                left = 4 + column * pitch
                for number, pixels in enumerate((one.tile, one.overlay)):
                    shown = Image.fromarray(pixels)
                    # small tiles are shown as the squares they are
                    kind = Image.Resampling.LANCZOS if shown.width > SIDE // 2 else Image.Resampling.NEAREST
                    shown = shown.resize((SIDE, SIDE), kind)
                    insets.append(canvas.Inset(shown, left + number * (side + gap), top, side, side))
                said = f"{'' if one.right else 'wrong: '}{one.predicted}, {one.probability:.2f}"
                said = canvas.wrap(said, 2 * side + gap, SMALL, lines=2)
                lines = max(lines, said.count("\n") + 1)
                colour = canvas.INK if one.right else canvas.VERMILION
                texts.append((said, left, top + side + 2, {"fontsize": SMALL, "color": colour}))
            top += side + 11.5 * lines + 6
        top += 4
    chart = canvas.new(top)
    _draw_scale(chart)
    for text, left, down, style in texts:
        canvas.write(chart, text, left, down, **style)
    canvas.save(chart, picture, statement, insets)


def _scale_height() -> float:
    return 30.0


def _draw_scale(chart: Any) -> None:
    """Draw what the colours mean."""
    bar = canvas.axes(chart, 4, 1, 86, 8)
    bar.imshow(np.linspace(0, 1, 64)[None], aspect="auto", cmap=COLOURS, interpolation="nearest")
    bar.set_axis_off()
    words = "from nothing to the tile's strongest evidence for"
    canvas.write(chart, words, 96, 0, fontsize=SMALL)
    canvas.write(chart, "the class predicted; below, that class and its probability", 4, 12, fontsize=SMALL)
