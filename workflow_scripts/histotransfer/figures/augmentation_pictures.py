"""What a recipe's augmentation does to a tile of the user's own data, as a picture with captions.

Every tile in it went through :func:`histotransfer.training.augmentation.apply`, the function of the training step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from histotransfer import canvas, seeds
from histotransfer.definitions import Augmentation, Recipe
from histotransfer.tables import tile_pixels
from histotransfer.training import augmentation

# Three tiles side by side fill a phone's 360 px, at two stored pixels for one: text of 24 px stands there 12 px high.
_COLUMNS, _SIDE, _GAP = 3, 232, 12
_HEADING_PX, _CAPTION_PX, _LINE = 26, 24, 34
#: Tiles that everything has been done to.
EXAMPLES = 6


class _Row(NamedTuple):
    """Tiles side by side: what is done, and each tile with how much of it."""

    heading: str
    tiles: list[tuple[str, np.ndarray]]


def draw_augmentation(
    *,
    pixels: Sequence[str | Path],
    figure: str | Path,
    recipe: Recipe,
    px: int,
    master_seed: int,
) -> str:
    """Draw each transformation of a recipe at its extremes, and examples of all of them together.

    Parameters
    ----------
    pixels : sequence of path
        The files that the network is trained on; the tile is drawn by the master seed from the first, in a random
        order, that has tiles.
    figure : path
        JPEG or PNG to write.
    recipe : Recipe
    px : int
        Edge of the network's input in pixels.
    master_seed : int

    Returns
    -------
    str
        What the picture shows.

    Raises
    ------
    ValueError
        If no file has tiles, or one is damaged.
    """
    tiles = _first_with_tiles(pixels, master_seed)
    row = _chosen(tiles, master_seed)
    wanted = recipe.augmentation or Augmentation()
    rows = list(_each_alone(tiles, row, wanted, px=px))
    if rows:
        rows += _together(tiles, row, wanted, px=px, generator=seeds.generator(master_seed, "augmentation examples"))
        statement = (
            f"What training does to tile {tiles.tile[row]} of image {tiles.image[row]}, drawn by the master seed: "
            f"{', '.join(each.heading for each in rows[:-1]).lower()}; each at its extremes, then all of them at random"
        )
    else:
        rows = [_Row("Nothing is varied in training", [("as it is", _middle(tiles, row, px))])]
        statement = f"Training takes tiles as they are: tile {tiles.tile[row]} of image {tiles.image[row]}"
    canvas.save_picture(_sheet(rows), figure, statement)
    return statement


def _first_with_tiles(pixels: Sequence[str | Path], master_seed: int) -> tile_pixels.TilePixels:
    # one file is opened, whatever the number of slides
    ranked = sorted(pixels, key=lambda path: seeds.unit_hash(master_seed, "augmentation shown", Path(path).name))
    for path in ranked[:-1]:
        if tile_pixels.has_tiles(path):
            return tile_pixels.open_tiles([path])
    return tile_pixels.open_tiles(ranked[-1:])


def _chosen(tiles: tile_pixels.TilePixels, master_seed: int) -> int:
    """Return a tile: where images have their own shape, one that is not square if there is one."""
    uneven = np.flatnonzero(~tiles.is_square)
    among = uneven if len(uneven) else np.arange(len(tiles))
    return int(seeds.generator(master_seed, "tile of the augmentation shown").choice(among))


def _middle(tiles: tile_pixels.TilePixels, row: int, px: int) -> np.ndarray:
    start = (tiles.px - px) // 2
    return tiles.read(np.array([row]))[0, start : start + px, start : start + px]


def _each_alone(tiles: tile_pixels.TilePixels, row: int, wanted: Augmentation, *, px: int) -> Sequence[_Row]:
    """Return one row for each transformation that a recipe asks for, in the order in which they are done."""
    rows = []
    [stored] = tiles.read(np.array([row]))
    middle = (tiles.px - px) // 2

    def made(corner: tuple[int, int] = (middle, middle), **drawn: np.ndarray) -> np.ndarray:
        if tiles.px > px:
            drawn["corner"] = np.array([corner], np.int32)
        return _applied(stored[None], drawn, px)[0]

    def moved(**asked: Any) -> np.ndarray:
        still = {"rotate": 0.0, "zoom": 1.0, "shear": 0.0, "shift": (0.0, 0.0), **asked}
        return made(affine=augmentation.affine(px=px, **{name: np.array([value]) for name, value in still.items()}))

    def turned(turns: int = 0, left_right: int = 0, up_down: int = 0) -> np.ndarray:
        names = {"quarter_turns": turns, "left_right": left_right, "up_down": up_down}
        return made(turn=augmentation.turn(**{name: np.array([value]) for name, value in names.items()}))

    as_it_is = ("as it is", made())
    if wanted.maximal_crop and not tiles.is_square[row]:
        crops = tiles.read(np.array([row] * 3), crops=np.array([0.0, 0.5, 1.0 - 1e-6]))
        part = slice(middle, middle + px)
        shown = list(zip(("first", "middle", "last"), crops[:, part, part], strict=True))
        rows.append(_Row("Largest square of the image", shown))
    if tiles.px > px:
        last = tiles.px - px
        corners = {"upper left": (0, 0), "middle": (middle, middle), "lower right": (last, last)}
        shown = [(name, made(corner)) for name, corner in corners.items()]
        rows.append(_Row(f"Crop of {px} from {tiles.px} px", shown))
    if wanted.rotate:
        most = wanted.rotate
        ends = [(f"{sign}{most:g}°", moved(rotate=turn * most)) for sign, turn in (("−", -1), ("+", 1))]
        rows.append(_Row("Rotation", [ends[0], as_it_is, ends[1]]))
    if wanted.zoom:
        ends = [(f"× {value:g}", moved(zoom=value)) for value in wanted.zoom]
        rows.append(_Row("Zoom", [ends[0], as_it_is, ends[1]]))
    if wanted.shear:
        most = wanted.shear
        ends = [(f"{sign}{most:g}°", moved(shear=lean * most)) for sign, lean in (("−", -1), ("+", 1))]
        rows.append(_Row("Shear", [ends[0], as_it_is, ends[1]]))
    if wanted.shift:
        most = wanted.shift
        ends = [(f"{sign}{most:.0%}", moved(shift=(by * most, by * most))) for sign, by in (("−", -1), ("+", 1))]
        rows.append(_Row("Shift, right and down", [ends[0], as_it_is, ends[1]]))
    if wanted.quarter_turns:
        rows.append(_Row("Quarter turns", [(f"{90 * turns}°", turned(turns)) for turns in (1, 2, 3)]))
    if wanted.flip != "none":
        shown = [as_it_is, ("left, right", turned(left_right=1))]
        shown += [("up, down", turned(up_down=1))] if wanted.flip == "both" else []
        rows.append(_Row("Flips", shown))
    for name in augmentation.COLOURS:
        if getattr(wanted, name):
            ends = [(f"× {value:g}", made(**{name: np.array([value], np.float32)})) for value in getattr(wanted, name)]
            rows.append(_Row(name.capitalize(), [ends[0], as_it_is, ends[1]]))
    return rows


def _together(
    tiles: tile_pixels.TilePixels, row: int, wanted: Augmentation, *, px: int, generator: np.random.Generator
) -> list[_Row]:
    crops = augmentation.draw_crops(wanted, n=EXAMPLES, generator=generator)
    drawn = augmentation.draw(wanted, n=EXAMPLES, px_stored=tiles.px, px=px, generator=generator)
    shown = _applied(tiles.read(np.array([row] * EXAMPLES), crops=crops), drawn, px)
    return [_Row("All together, at random", [("", tile) for tile in shown])]


def _applied(stored: np.ndarray, drawn: Mapping[str, np.ndarray], px: int) -> np.ndarray:
    from keras import ops

    varied = ops.convert_to_numpy(augmentation.apply(stored, drawn, px=px))
    return np.clip(np.rint(varied), 0, 255).astype(np.uint8)


def _sheet(rows: Sequence[_Row]) -> Any:
    from matplotlib import font_manager
    from PIL import Image, ImageDraw, ImageFont

    fonts = {
        weight: ImageFont.truetype(
            font_manager.findfont(font_manager.FontProperties(family="DejaVu Sans", weight=weight)), size
        )
        for weight, size in (("bold", _HEADING_PX), ("normal", _CAPTION_PX))
    }
    # each row of tiles with the places of its heading and captions
    heights = [sum(_height(each, first) for first in range(0, len(each.tiles), _COLUMNS)) for each in rows]
    width = _COLUMNS * (_SIDE + _GAP) - _GAP
    sheet = Image.new("RGB", (width, sum(heights) + (_LINE + _GAP) * len(rows)), canvas.PAPER)
    brush = ImageDraw.Draw(sheet)
    top = 0
    for each in rows:
        brush.text((0, top), each.heading, fill=canvas.INK, font=fonts["bold"])
        top += _LINE + _GAP // 2
        for first in range(0, len(each.tiles), _COLUMNS):
            for place, (caption, pixels) in enumerate(each.tiles[first : first + _COLUMNS]):
                left = place * (_SIDE + _GAP)
                tile = Image.fromarray(pixels)
                # small tiles are shown as the squares they are
                kind = Image.Resampling.LANCZOS if tile.width > _SIDE // 2 else Image.Resampling.NEAREST
                sheet.paste(tile.resize((_SIDE, _SIDE), kind), (left, top))
                brush.text((left, top + _SIDE + 2), caption, fill=canvas.INK, font=fonts["normal"])
            top += _height(each, first)
        top += _GAP // 2
    return sheet


def _height(row: _Row, first: int) -> int:
    captioned = any(caption for caption, _ in row.tiles[first : first + _COLUMNS])
    return _SIDE + (_LINE if captioned else 0) + _GAP
