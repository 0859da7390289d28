"""Pictures of pixels for the report: slides with their kept tiles, and sample tiles of each class.

They hold no text, so they read well at any size; names and counts stand beside them on the page.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from histotransfer import canvas, scoreboard, seeds, store

#: Longest side of a slide's picture, and side of a sample tile, in pixels: twice what a laptop shows.
SLIDE_SIDE, TILE_SIDE, COLUMNS, GAP = 720, 200, 6, 8


def sample_slides(slides: Sequence[str], *, at_most: int = 40, master_seed: int) -> list[str]:
    """Return the slides whose pictures the report shows: all, or `at_most` drawn by the master seed.

    An added slide takes the place of at most one other. The order of `slides` is kept.
    """
    ranked = sorted(slides, key=lambda slide: (seeds.unit_hash(master_seed, "slides shown", slide), slide))
    shown = set(ranked[:at_most])
    return [slide for slide in slides if slide in shown]


def draw_slides(
    *,
    overlays: Sequence[str | Path],
    tiles: Sequence[str | Path],
    descriptions: Sequence[str | Path],
    figures: Sequence[str | Path],
) -> list[str]:
    """Draw the kept tiles of slides onto their tissue overlays.

    Parameters
    ----------
    overlays : sequence of path
        ``tissue/{slide}.jpg``: the whole slide at low resolution, or a card that says why there is none.
    tiles : sequence of path
        ``tiles/{slide}.h5``: the grid.
    descriptions : sequence of path
        ``slides/{slide}.json``: the size of level 0.
    figures : sequence of path
        JPEG or PNG to write for each slide.

    Returns
    -------
    list of str
        What each picture shows.

    Raises
    ------
    ValueError
        If the four are not equally long.
    """
    lengths = {len(overlays), len(tiles), len(descriptions), len(figures)}
    if len(lengths) > 1:
        raise ValueError(f"overlays, tiles, descriptions and figures go together; found {sorted(lengths)} of them")
    return [_draw_slide(*one) for one in zip(overlays, tiles, descriptions, figures, strict=True)]


def _draw_slide(overlay: str | Path, tiles: str | Path, description: str | Path, figure: str | Path) -> str:
    import h5py
    from PIL import Image, ImageDraw

    size = store.read_json(description).get("size")
    with Image.open(overlay) as stored:
        picture = stored.convert("RGB")
    picture.thumbnail((SLIDE_SIDE, SLIDE_SIDE), Image.Resampling.LANCZOS)
    with h5py.File(tiles, "r") as grid:
        status, reason = str(grid.attrs["status"]), str(grid.attrs["reason"])
        if status != "ok" or not size:
            statement = f"{status}: {reason}" if reason else status
            canvas.save_picture(picture, figure, statement)
            return statement
        codes = grid["status"][:]
        kept = codes == _kept_code(grid)
        corners = np.stack([grid["l0_x"][:][kept], grid["l0_y"][:][kept]], axis=1)
        side = float(grid.attrs["l0_size"])
    scale = picture.width / float(size[0])
    brush = ImageDraw.Draw(picture, "RGBA")
    for left, top in corners * scale:
        # at least 2 px wide, so that tiles of a huge slide still show
        right, bottom = max(left + side * scale, left + 2), max(top + side * scale, top + 2)
        brush.rectangle((left, top, right, bottom), fill=(0, 114, 178, 60), outline=(0, 90, 142, 255))
    statement = f"{len(corners):,} of {len(codes):,} grid cells kept as tiles"
    canvas.save_picture(picture, figure, statement)
    return statement


def _kept_code(grid: Any) -> int:
    import json

    names = grid.attrs["status_names"]
    names = json.loads(names) if isinstance(names, str) else list(names)
    return names.index("kept")


def draw_tiles(
    *,
    pixels: Sequence[str | Path],
    label_files: Sequence[str | Path],
    figures: Sequence[str | Path],
    classes: Sequence[str],
    per_class: int,
    master_seed: int,
    noun: str = "slide",
) -> list[str]:
    """Draw sample tiles, one picture a class; as many slides as possible have one before any has two.

    Parameters
    ----------
    pixels : sequence of path
        ``pixels/{px}/{slide}.h5``; only the tiles that are drawn are read.
    label_files : sequence of path
        ``labels/{task}/{slide}.tsv`` of the same slides.
    figures : sequence of path
        JPEG or PNG to write for each class.
    classes : sequence of str
        The task's classes.
    per_class : int
        Tiles of each class, at most.
    master_seed : int
        Draws the sample.
    noun : str
        What tiles come from: ``slide``, or ``image`` for patches and points.

    Returns
    -------
    list of str
        What each picture shows.

    Raises
    ------
    ValueError
        If pixels and labels, or figures and classes, are not equally long.
    """
    if len(pixels) != len(label_files) or len(figures) != len(classes):
        raise ValueError(
            "each file of pixels has one of labels, each figure a class; found "
            f"{len(pixels)}, {len(label_files)}, {len(figures)} and {len(classes)}"
        )
    sample = _Sample(classes, per_class, master_seed)
    for number, path in enumerate(label_files):
        sample.add(number, path)
    chosen = {name: sample.chosen(name) for name in classes}
    read: dict[tuple[int, str, str], np.ndarray] = {}
    for number in sorted({key[0] for keys in chosen.values() for key in keys}):
        wanted = {(image, tile) for keys in chosen.values() for file, image, tile in keys if file == number}
        read |= {(number, *key): tile for key, tile in _read_tiles(pixels[number], wanted).items()}
    statements = []
    for name, figure in zip(classes, figures, strict=True):
        # a tile that could not be read is in no sheet
        shown = [read[key] for key in chosen[name] if key in read]
        slides = scoreboard.counted(len(sample.slides[name]), noun)
        statement = f"{len(shown)} of {sample.tiles[name]:,} tiles of {slides}, drawn by the master seed"
        if not sample.tiles[name]:
            statement = "No tile has this label"
        canvas.save_picture(_sheet(shown, per_class), figure, statement)
        statements.append(statement)
    return statements


class _Sample:
    """The first tiles of each class in a random order that no other file changes; memory grows with files only."""

    def __init__(self, classes: Sequence[str], per_class: int, master_seed: int) -> None:
        self._per_class, self._seed = per_class, master_seed
        self._first: dict[str, list[tuple[int, float, int, str, str]]] = {name: [] for name in classes}
        self.tiles = dict.fromkeys(classes, 0)
        self.slides: dict[str, set[str]] = {name: set() for name in classes}

    def add(self, number: int, labels: str | Path) -> None:
        by_slide: dict[tuple[str, str], list[tuple[float, str, str]]] = {}
        for row in store.read_table(labels):
            name = row["label"]
            if name not in self.tiles:
                continue
            self.tiles[name] += 1
            self.slides[name].add(row["slide"])
            place = seeds.unit_hash(self._seed, "tiles shown", row["image"], row["tile"])
            by_slide.setdefault((name, row["slide"]), []).append((place, row["image"], row["tile"]))
        for (name, _), found in by_slide.items():
            nearest = heapq.nsmallest(self._per_class, found)
            self._first[name] += [(turn, place, number, *key) for turn, (place, *key) in enumerate(nearest)]

    def chosen(self, name: str) -> list[tuple[int, str, str]]:
        """Return (number of the file, image, tile) of the class's sample."""
        first = heapq.nsmallest(self._per_class, self._first[name])
        return [(number, image, tile) for _, _, number, image, tile in first]


def _read_tiles(path: str | Path, wanted: set[tuple[str, str]]) -> dict[tuple[str, str], np.ndarray]:
    """Return those tiles of a file that are wanted by (image, tile), each of shape (px, px, 3)."""
    import h5py

    with h5py.File(path, "r") as file:
        if "tiles" not in file:
            return {}
        keys = zip(store.read_texts(file, "image"), store.read_texts(file, "tile"), strict=True)
        # one by one: h5py's fancy index reads a hundred times slower
        return {key: file["tiles"][place] for place, key in enumerate(keys) if key in wanted}


def _sheet(tiles: list[np.ndarray], per_class: int) -> Any:
    from PIL import Image

    rows = max(1, -(-min(per_class, max(len(tiles), 1)) // COLUMNS))
    pitch = TILE_SIDE + GAP
    sheet = Image.new("RGB", (COLUMNS * pitch - GAP, rows * pitch - GAP), canvas.PAPER)
    for place, pixels in enumerate(tiles):
        tile = Image.fromarray(pixels)
        # small tiles are shown as the squares they are
        kind = Image.Resampling.LANCZOS if tile.width > TILE_SIDE // 2 else Image.Resampling.NEAREST
        tile = tile.resize((TILE_SIDE, TILE_SIDE), kind)
        sheet.paste(tile, (place % COLUMNS * pitch, place // COLUMNS * pitch))
    return sheet
