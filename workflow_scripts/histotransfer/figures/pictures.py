"""Pictures of pixels for the report: slides with their kept tiles, and sample tiles of each class.

They hold no text, so they read well at any size; names and counts stand beside them on the page.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from histotransfer import canvas, seeds, store
from histotransfer.problems import counted

#: Longest side of a slide's picture, and side of a sample tile, in pixels: twice what a laptop shows.
SLIDE_SIDE, TILE_SIDE, COLUMNS, GAP = 720, 200, 6, 8


def draw_slide(*, overlay: str | Path, grid: str | Path, description: str | Path, figure: str | Path) -> str:
    """Draw a slide's kept tiles onto its tissue overlay.

    Parameters
    ----------
    overlay : path
        ``tissue/{slide}.jpg``: the whole slide at low resolution, or a card that says why there is none.
    grid : path
        ``tiles/{slide}.h5``.
    description : path
        ``slides/{slide}.json``: the size of level 0.
    figure : path
        JPEG or PNG to write.

    Returns
    -------
    str
        What the picture shows.
    """
    import h5py
    from PIL import Image, ImageDraw

    size = store.read_json(description).get("size")
    with Image.open(overlay) as stored:
        picture = stored.convert("RGB")
    picture.thumbnail((SLIDE_SIDE, SLIDE_SIDE), Image.Resampling.LANCZOS)
    with h5py.File(grid, "r") as file:
        status, reason = str(file.attrs["status"]), str(file.attrs["reason"])
        if status != "ok" or not size:
            statement = f"{status}: {reason}" if reason else status
            canvas.save_picture(picture, figure, statement)
            return statement
        codes = file["status"][:]
        kept = codes == _kept_code(file)
        corners = np.stack([file["l0_x"][:][kept], file["l0_y"][:][kept]], axis=1)
        side = float(file.attrs["l0_size"])
    scale = picture.width / float(size[0])
    brush = ImageDraw.Draw(picture, "RGBA")
    for left, top in corners * scale:
        # at least 2 px wide, so that tiles of a huge slide still show
        right, bottom = max(left + side * scale, left + 2), max(top + side * scale, top + 2)
        brush.rectangle((left, top, right, bottom), fill=(0, 114, 178, 34), outline=(0, 90, 142, 255))
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
    figure: str | Path,
    class_name: str,
    per_class: int,
    master_seed: int,
    noun: str = "slide",
) -> str:
    """Draw sample tiles of one class; as many slides as possible have one before any has two.

    Parameters
    ----------
    pixels : sequence of path
        ``pixels/{px}/{slide}.h5``; only the tiles that are drawn are read.
    label_files : sequence of path
        ``labels/{task}/{slide}.tsv`` of the same slides.
    figure : path
        JPEG or PNG to write.
    class_name : str
        A class of the task.
    per_class : int
        Tiles, at most.
    master_seed : int
        Draws the sample.
    noun : str
        What tiles come from: ``slide``, or ``image`` for patches and points.

    Returns
    -------
    str
        What the picture shows.

    Raises
    ------
    ValueError
        If pixels and labels are not equally long.
    """
    if len(pixels) != len(label_files):
        found = f"{len(pixels)} and {len(label_files)}"
        raise ValueError(f"each file of pixels has one of labels; found {found}")
    sample = _Sample(class_name, per_class, master_seed)
    for number, path in enumerate(label_files):
        sample.add(number, path)
    chosen = sample.chosen()
    read: dict[tuple[int, str, str], np.ndarray] = {}
    for number in sorted({key[0] for key in chosen}):
        wanted = {(image, tile) for file, image, tile in chosen if file == number}
        read |= {(number, *key): tile for key, tile in _read_tiles(pixels[number], wanted).items()}
    # a tile that could not be read is in no sheet
    shown = [read[key] for key in chosen if key in read]
    sources = counted(len(sample.slides), noun)
    statement = f"{len(shown)} of {sample.tiles:,} tiles of {sources}, drawn by the master seed"
    if not sample.tiles:
        statement = "No tile has this label"
    canvas.save_picture(_sheet(shown, per_class), figure, statement)
    return statement


class _Sample:
    """The first tiles of a class in a random order that no other file changes; memory grows with files only."""

    def __init__(self, class_name: str, at_most: int, master_seed: int) -> None:
        self._class, self._at_most, self._seed = class_name, at_most, master_seed
        self._first: list[tuple[int, float, int, str, str]] = []
        self.tiles = 0
        self.slides: set[str] = set()

    def add(self, number: int, labels: str | Path) -> None:
        by_slide: dict[str, list[tuple[float, str, str]]] = {}
        for row in store.read_table(labels):
            if row["label"] == self._class:
                place = seeds.unit_hash(self._seed, "tiles shown", row["image"], row["tile"])
                by_slide.setdefault(row["slide"], []).append((place, row["image"], row["tile"]))
        for slide, found in by_slide.items():
            self.tiles += len(found)
            self.slides.add(slide)
            nearest = heapq.nsmallest(self._at_most, found)
            self._first += [(turn, place, number, *key) for turn, (place, *key) in enumerate(nearest)]

    def chosen(self) -> list[tuple[int, str, str]]:
        """Return (number of the file, image, tile) of the sample."""
        first = heapq.nsmallest(self._at_most, self._first)
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
