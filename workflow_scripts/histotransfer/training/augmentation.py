"""How tiles are varied in training: drawn with NumPy, applied on the device as a part of the compiled step.

A few numbers are drawn for each tile, by one generator whatever the backend; what is done to pixels is the same on
every backend but for rounding. The order is fixed:

1. the crop of the input out of the stored tile,
2. rotation, zoom, shear and shift together, by one bilinear interpolation,
3. quarter turns and flips, which move pixels and change none,
4. saturation, contrast, brightness and sharpness, in this order, in hue, saturation and value.

Steps 1 to 3 are one look-up: for each pixel of the result, its place in the stored tile is computed. What a recipe does
not ask for is not computed. The random maximal square of an image that is not square is taken before all of these, when
the image is read (:func:`draw_crops`).

References
----------
Takahama S et al. (2019). Multi-Stage Pathological Image Classification using Semantic Segmentation, section 4.2: crop,
quarter turns, left-right flips, and "the saturation, contrast, brightness, and sharpness in the HSV space".
Mormont R et al. (2018). Comparison of Deep Transfer Learning Strategies for Digital Pathology, section 3.5: "a maximum
square crop is taken at a random position", then flips and rotations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from histotransfer.definitions import Augmentation

#: What changes colours, in the order in which it is done.
COLOURS = ("saturation", "contrast", "brightness", "sharpness")
#: How many axes a recipe's ``flip`` flips at random: left and right first.
AXES_FLIPPED = {"none": 0, "horizontal": 1, "both": 2}

# Places between pixels are whole numbers of 2 ** -18 px: every backend and device computes the same ones. Places up
# to 8,192 px from the corner fit 32 bits.
_FRACTION_BITS = 18
_FARTHEST = 2 ** (31 - _FRACTION_BITS)


def draw_crops(augmentation: Augmentation | None, *, n: int, generator: np.random.Generator) -> np.ndarray | None:
    """Draw which of its largest squares is read of each image.

    See :meth:`histotransfer.tables.tile_pixels.TilePixels.read`.

    Returns
    -------
    ndarray of shape (n,), float32, or None
        Uniform in [0, 1); None where the recipe has no ``maximal_crop``, which takes the square in the middle.
    """
    if augmentation is None or not augmentation.maximal_crop:
        return None
    return generator.random(n, np.float32)


def draw(
    augmentation: Augmentation | None, *, n: int, px_stored: int, px: int, generator: np.random.Generator
) -> dict[str, np.ndarray]:
    """Draw how each of `n` tiles is varied.

    Parameters
    ----------
    augmentation : Augmentation or None
        None varies nothing but the place of a crop. ``maximal_crop`` is not looked at: see :func:`draw_crops`.
    n : int
        Tiles.
    px_stored, px : int
        Edge of the stored tiles and of the network's input, in pixels. Where the stored ones are larger, the input is
        cropped at a random place, whatever `augmentation` says.
    generator : numpy.random.Generator
        One for each batch, seeded by what the batch is.

    Returns
    -------
    dict of ndarray, each of the first dimension n
        For :func:`apply`. Which keys it has depends on the recipe and the two sizes alone: ``corner`` int32 (n, 2),
        ``turn`` int32 (n, 2, 2), ``affine`` int32 (n, 2, 3), and float32 (n,) factors by the names in
        :data:`COLOURS`.

    Raises
    ------
    ValueError
        If the stored tiles are smaller than the input, or zoom and shear reach farther than can be computed.
    """
    wanted = augmentation or Augmentation()
    if px_stored < px:
        raise ValueError(f"tiles must be stored with at least the {px} px of the input; found {px_stored} px")
    drawn: dict[str, np.ndarray] = {}
    if px_stored > px:
        drawn["corner"] = generator.integers(0, px_stored - px + 1, (n, 2), dtype=np.int32)
    flips = AXES_FLIPPED[wanted.flip]
    if wanted.quarter_turns or flips:
        turns = generator.integers(0, 4, n) if wanted.quarter_turns else np.zeros(n, int)
        flipped = np.zeros((n, 2), int)
        flipped[:, :flips] = generator.integers(0, 2, (n, flips))
        drawn["turn"] = turn(quarter_turns=turns, left_right=flipped[:, 0], up_down=flipped[:, 1])
    if wanted.zoom or wanted.rotate or wanted.shear or wanted.shift:
        # ASSUME: every range is drawn from uniformly, rotation, shear and shift to both sides alike
        rotate, shear, shift_x, shift_y = generator.uniform(-1, 1, (4, n))
        # ASSUME: one factor for both directions, so that nuclei keep their proportions
        zoom = generator.uniform(*(wanted.zoom or (1.0, 1.0)), n)
        if px_stored > _FARTHEST // 2:
            raise ValueError(f"tiles to be rotated must have at most {_FARTHEST // 2} px; found {px_stored} px")
        drawn["affine"] = affine(
            rotate=rotate * (wanted.rotate or 0.0),
            zoom=zoom,
            shear=shear * (wanted.shear or 0.0),
            shift=np.column_stack([shift_x, shift_y]) * (wanted.shift or 0.0),
            px=px,
        )
    for name in COLOURS:
        if getattr(wanted, name):
            drawn[name] = generator.uniform(*getattr(wanted, name), n).astype(np.float32)
    return drawn


def turn(*, quarter_turns: np.ndarray, left_right: np.ndarray, up_down: np.ndarray) -> np.ndarray:
    """Return quarter turns and flips as matrices: which pixel, seen from the middle, each pixel comes from.

    Parameters
    ----------
    quarter_turns : ndarray of int, shape (n,)
        Turns by 90 degrees against the clock, as :func:`numpy.rot90`; they come first.
    left_right, up_down : ndarray of int, shape (n,)
        1 where left and right, or up and down, change places.

    Returns
    -------
    ndarray of shape (n, 2, 2), int32
        From (row, column) of the result to (row, column) of the source, both from the middle.
    """
    cosine = np.array([1, 0, -1, 0])[np.asarray(quarter_turns) % 4]
    sine = np.array([0, 1, 0, -1])[np.asarray(quarter_turns) % 4]
    rows, columns = 1 - 2 * np.asarray(up_down), 1 - 2 * np.asarray(left_right)
    matrix = np.array([[cosine * rows, sine * columns], [-sine * rows, cosine * columns]])
    return np.moveaxis(matrix, -1, 0).astype(np.int32)


def affine(*, rotate: np.ndarray, zoom: np.ndarray, shear: np.ndarray, shift: np.ndarray, px: int) -> np.ndarray:
    """Return rotation, zoom, shear and shift as matrices in whole numbers.

    A tile is zoomed about its middle, then sheared, rotated and shifted.

    Parameters
    ----------
    rotate : ndarray of float, shape (n,)
        Degrees against the clock.
    zoom : ndarray of float, shape (n,)
        By which things become larger.
    shear : ndarray of float, shape (n,)
        Degrees by which upright lines lean to the right.
    shift : ndarray of float, shape (n, 2)
        To the right and down, as shares of the edge.
    px : int
        Edge in pixels.

    Returns
    -------
    ndarray of shape (n, 2, 3), int32
        From (row, column, 1) of the result, in half pixels from the middle, to (row, column) of the source, in
        2 ** -18 px from the middle.

    Raises
    ------
    ValueError
        If a pixel would come from a place too far away to be computed.
    """
    angle, lean = np.deg2rad(rotate), np.tan(np.deg2rad(shear))
    # rows point down: x' = x - lean * y leans to the right, and [[c, s], [-s, c]] turns (x, y) against the clock
    cosine, sine = np.cos(angle), np.sin(angle)
    x, y = shift[:, 0] * px, shift[:, 1] * px
    # the way back: unshift, unrotate, unshear, unzoom
    unrotated = np.array([[cosine, -sine], [sine, cosine]])
    unsheared = np.array([unrotated[0] + lean * unrotated[1], unrotated[1]]) / zoom
    from_x, from_y = unsheared
    matrix = np.array(
        [
            [from_y[1], from_y[0], -(from_y[0] * x + from_y[1] * y)],
            [from_x[1], from_x[0], -(from_x[0] * x + from_x[1] * y)],
        ]
    )
    reach = (np.abs(matrix[:, :2]).sum(axis=1) * px / 2 + np.abs(matrix[:, 2])).max(initial=0.0) + px
    # half is left for the corner and what is added before anything is mirrored
    if not reach < _FARTHEST / 2:
        raise ValueError(
            f"zoom and shear must take pixels from no farther than {_FARTHEST // 2} px; found {reach:.0f} px"
        )
    units = np.array([2.0 ** (_FRACTION_BITS - 1), 2.0 ** (_FRACTION_BITS - 1), 2.0**_FRACTION_BITS])
    return np.rint(np.moveaxis(matrix, -1, 0) * units).astype(np.int32)


def apply(tiles: Any, drawn: Mapping[str, Any], *, px: int) -> Any:
    """Vary tiles as drawn.

    Works on any backend of Keras, eagerly or inside a compiled function; the keys of `drawn` and `px` are constants of
    that function.

    Parameters
    ----------
    tiles : tensor of shape (n, px_stored, px_stored, 3), uint8
        RGB.
    drawn : dict
        What :func:`draw` gave for these tiles.
    px : int
        Edge of the result.

    Returns
    -------
    tensor of shape (n, px, px, 3), float32
        RGB from 0 to 255, not rounded; the values of `tiles` themselves after crops, quarter turns and flips alone.

    Raises
    ------
    ValueError
        If the stored tiles are larger than `px` and `drawn` has no corner.

    Notes
    -----
    With a tile's hue H, saturation S and value V = max(R, G, B), S and V in [0, 1], and its factor f:

    - saturation: S becomes min(f S, 1).
    - contrast: V becomes m + f (V - m), m being the mean of V over the tile, then clipped to [0, 1].
    - brightness: V becomes min(f V, 1).
    - sharpness: V becomes s + f (V - s), clipped to [0, 1]; s is V smoothed by the 3 x 3 kernel (1 1 1; 1 5 1;
      1 1 1) / 13, and V itself on the outermost pixels.

    Hue is never changed. In RGB, S times g moves each channel c to V - g (V - c), and a new value V' moves it to
    c V' / V, so nothing is converted.
    """
    # ASSUME: Takahama et al. give the four names and "in the HSV space", no formulas. Saturation and brightness are the
    # factors of S and of V; contrast and sharpness are Pillow's ImageEnhance.Contrast and Sharpness (the distance from
    # the mean, and from a smoothed picture, with its kernel and its edges), taken of V instead of each RGB channel.
    placed = _placed(tiles, drawn, px)
    return _coloured(placed, drawn) if any(name in drawn for name in COLOURS) else placed


def _placed(tiles: Any, drawn: Mapping[str, Any], px: int) -> Any:
    """Crop, rotate, zoom, shear, shift, turn and flip."""
    from keras import ops

    stored = tiles.shape[1]
    if stored != px and "corner" not in drawn:
        raise ValueError(f"tiles of {px} px are needed, or the corners of their crops; found tiles of {stored} px")
    if not drawn.keys() & {"corner", "turn", "affine"}:
        return ops.cast(tiles, "float32")
    n = ops.shape(tiles)[0]
    pixels = ops.reshape(tiles, (-1, 3))
    first = ops.reshape(ops.arange(n, dtype="int32") * (stored * stored), (-1, 1, 1))
    corner = _column(drawn, "corner", (2,))
    (row_down, row_right), (column_down, column_right) = _turned(drawn)
    if "affine" not in drawn:
        # pixels of the result and of the source are counted from the corner, not from the middle
        top = (px - 1) * (1 - row_down - row_right) // 2 + corner[0]
        left = (px - 1) * (1 - column_down - column_right) // 2 + corner[1]
        down = ops.reshape(ops.arange(px, dtype="int32"), (1, -1, 1))
        right = ops.reshape(ops.arange(px, dtype="int32"), (1, 1, -1))
        at_left = down * (row_down * stored + column_down) + (top * stored + left + first)
        place = at_left + right * (row_right * stored + column_right)
        return ops.cast(ops.take(pixels, place, axis=0), "float32")

    pixel = 2**_FRACTION_BITS
    matrix = drawn["affine"]
    down = ops.reshape(2 * ops.arange(px, dtype="int32") - (px - 1), (1, -1, 1))
    right = ops.reshape(2 * ops.arange(px, dtype="int32") - (px - 1), (1, 1, -1))
    before, after, share = [], [], []
    for axis in range(2):
        of_row, of_column, shifted = (ops.reshape(matrix[:, axis, k], (-1, 1, 1)) for k in range(3))
        at_left = down * (of_row * row_down + of_column * column_down) + (
            shifted + corner[axis] * pixel + (px - 1) * (pixel // 2)
        )
        place = at_left + right * (of_row * row_right + of_column * column_right)
        whole = ops.right_shift(place, _FRACTION_BITS)
        before.append(_mirrored(whole, stored))
        after.append(_mirrored(whole + 1, stored))
        between = ops.cast(ops.bitwise_and(place, pixel - 1), "float32") * (1 / pixel)
        share.append(ops.expand_dims(between, -1))

    def at(row: Any, column: Any) -> Any:
        return ops.cast(ops.take(pixels, row * stored + (column + first), axis=0), "float32")

    def along(row: Any) -> Any:
        left = at(row, before[1])
        return left + (at(row, after[1]) - left) * share[1]

    upper = along(before[0])
    return upper + (along(after[0]) - upper) * share[0]


def _column(drawn: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> list[Any]:
    """Return each of `shape` numbers a tile as (n, 1, 1), or zeros."""
    from keras import ops

    if name not in drawn:
        return [0] * shape[0]
    return [ops.reshape(drawn[name][:, k], (-1, 1, 1)) for k in range(shape[0])]


def _turned(drawn: Mapping[str, Any]) -> list[list[Any]]:
    from keras import ops

    if "turn" not in drawn:
        return [[1, 0], [0, 1]]
    return [[ops.reshape(drawn["turn"][:, k, m], (-1, 1, 1)) for m in range(2)] for k in range(2)]


def _mirrored(place: Any, length: int) -> Any:
    """Return places in a row of `length` pixels that is mirrored at both ends, again and again."""
    from keras import ops

    # ASSUME: what lies outside the tile is its mirror image, as tissue goes on beyond the edge; black corners, or the
    # stripes of repeated edges, would be a pattern that no tile in testing has.
    place = ops.mod(place, 2 * length)
    return ops.minimum(place, 2 * length - 1 - place)


def _coloured(tiles: Any, drawn: Mapping[str, Any]) -> Any:
    """Change saturation and value of (n, px, px, 3), 0 to 255."""
    from keras import ops

    factor = {name: ops.reshape(drawn[name], (-1, 1, 1)) for name in COLOURS if name in drawn}
    value = ops.max(tiles, axis=-1)
    if "saturation" in factor:
        # S = (V - min) / V, and f S is at most 1
        chroma = value - ops.min(tiles, axis=-1)
        times = ops.minimum(factor["saturation"], value / ops.maximum(chroma, 1e-6))
        value_3 = ops.expand_dims(value, -1)
        tiles = value_3 - (value_3 - tiles) * ops.expand_dims(times, -1)
    if not factor.keys() - {"saturation"}:
        return tiles
    new = value
    if "contrast" in factor:
        # two sums in turn lose less than one over all pixels
        mean = ops.mean(ops.mean(new, axis=2, keepdims=True), axis=1, keepdims=True)
        new = ops.clip(mean + factor["contrast"] * (new - mean), 0.0, 255.0)
    if "brightness" in factor:
        new = ops.minimum(factor["brightness"] * new, 255.0)
    if "sharpness" in factor:
        inner = new[:, 1:-1, 1:-1]
        thrice = new[:, :-2] + new[:, 1:-1] + new[:, 2:]
        box = thrice[:, :, :-2] + thrice[:, :, 1:-1] + thrice[:, :, 2:]
        rough = ops.pad(inner - (box + 4.0 * inner) / 13.0, ((0, 0), (1, 1), (1, 1)))
        new = ops.clip(new + (factor["sharpness"] - 1.0) * rough, 0.0, 255.0)
    # black has no hue to keep: it becomes a grey of the new value
    black = value < 1e-6
    ratio = ops.where(black, 0.0, new / ops.maximum(value, 1e-6))
    return tiles * ops.expand_dims(ratio, -1) + ops.expand_dims(ops.where(black, new, 0.0), -1)
