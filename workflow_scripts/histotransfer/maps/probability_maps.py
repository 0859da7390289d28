"""Maps of predicted probabilities, one set of files a slide: to measure, to look at, and to open in QuPath.

A map has one pixel for each cell of the slide's grid. Beside it lies where it is: ``l0_`` is pixels of level 0,
``col, row`` count grid cells. The classes' colours differ with every kind of colour vision.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from histotransfer import canvas, provenance, store
from histotransfer.predictions import NO_LABEL, Predictions, read_predictions, read_validation
from histotransfer.problems import listing
from histotransfer.slides.grid import read_kept

#: Perceptually uniform colours of a probability, from 0 (dark) to 1 (bright).
COLOURS = "viridis"
#: Share of the map's colour where it lies on the slide.
WEIGHT = 0.6
#: Grey values of a map: 0 is no tile, a probability p is 1 + 65534 p, rounded.
STEPS = 65534

#: Of a class, of the positive one of two, and of tiles without a label (the colours of Takahama et al. 2019, figure 5).
NEGATIVE, POSITIVE, UNLABELLED = "#C6C1CB", canvas.VERMILION, "#7A6BAF"

_TILE = re.compile(r"(0|[1-9]\d*)_(0|[1-9]\d*)")
_KEY_HEIGHT, _KEY_TEXT = 34, 20
_ENDINGS = (".png", ".json", ".jpg", ".geojson")


@dataclass(frozen=True)
class Grid:
    """Where the grid of a slide lies.

    Attributes
    ----------
    image, image_in_sheet : str
        The slide's safe id, and its id in the sheet.
    n_cols, n_rows : int
        Cells of the whole grid, kept or not.
    l0_x, l0_y : int
        Upper left corner of the first cell, which is that of the part that was scanned.
    l0_step, l0_size : int
        From one cell to the next, and edge of a tile.
    mpp : float
        Micrometres per pixel of level 0.
    kept : frozenset of str
        Ids of the tiles that were kept.
    """

    image: str
    image_in_sheet: str
    n_cols: int
    n_rows: int
    l0_x: int
    l0_y: int
    l0_step: int
    l0_size: int
    mpp: float
    kept: frozenset[str]

    def place(self, cells: np.ndarray, values: np.ndarray, empty: Any) -> np.ndarray:
        """Return values (n, ...) of cells (col, row) on the grid: (n_rows, n_cols, ...), `empty` elsewhere."""
        laid = np.full((self.n_rows, self.n_cols, *values.shape[1:]), empty, dtype=values.dtype)
        laid[cells[:, 1], cells[:, 0]] = values
        return laid


def read_grid(path: str | Path) -> Grid:
    """Read where a grid of :func:`histotransfer.slides.grid.write_grid` lies.

    Raises
    ------
    ValueError
        If the slide has no grid.
    """
    import h5py

    kept = read_kept(str(path))
    said = kept.attributes
    if said["status"] != "ok":
        raise ValueError(f"{path}: a slide with predictions must have the status ok; found {said['status']}")
    with h5py.File(path, "r") as file:
        col, row = file["col"][:], file["row"][:]
        corner = int(file["l0_x"][:].min()), int(file["l0_y"][:].min())
    return Grid(
        image=str(said["slide"]),
        image_in_sheet=str(said["image_in_sheet"]),
        n_cols=int(col.max()) + 1,
        n_rows=int(row.max()) + 1,
        l0_x=corner[0],
        l0_y=corner[1],
        **{name: int(said[name]) for name in ("l0_step", "l0_size")},
        mpp=float(said["mpp"]),
        kept=frozenset(kept.tile),
    )


def cells_of(tiles: Sequence[str]) -> np.ndarray:
    """Return the grid cells (col, row) of tiles by their ids: int64, shape (n, 2).

    Raises
    ------
    ValueError
        If an id is not ``COL_ROW``.

    Examples
    --------
    >>> cells_of(["3_0", "12_7"]).tolist()
    [[3, 0], [12, 7]]
    """
    wrong = next((tile for tile in tiles if not _TILE.fullmatch(tile)), None)
    if wrong is not None:
        raise ValueError(f"a tile on a slide's grid must be called COL_ROW; found {wrong!r}")
    return np.array([tile.split("_") for tile in tiles], dtype=np.int64).reshape(-1, 2)


def positive_class(classes: Sequence[str]) -> int | None:
    """Return the index of the class whose probability a map shows, the second of two; None of more classes."""
    return 1 if len(classes) == 2 else None


def class_colours(classes: Sequence[str]) -> list[str]:
    """Return a colour (``#RRGGBB``) for each class."""
    if len(classes) == 2:
        return [NEGATIVE, POSITIVE]
    return [canvas.CLASS_COLOURS[k % len(canvas.CLASS_COLOURS)] for k in range(len(classes))]


def rgb(colour: str) -> tuple[int, int, int]:
    """Return the red, green and blue (0..255) of ``#RRGGBB``."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def coloured(probability: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Return what a map shows of tiles: the probability of the second of two classes, or which of more is predicted.

    Parameters
    ----------
    probability : ndarray of float, shape (n, n_classes)
    predicted : ndarray of int, shape (n,)
    classes : sequence of str

    Returns
    -------
    ndarray of uint8, shape (n, 3)
    """
    import matplotlib

    positive = positive_class(classes)
    if positive is None:
        return np.array([rgb(colour) for colour in class_colours(classes)], dtype=np.uint8)[predicted]
    shown = matplotlib.colormaps[COLOURS](probability[:, positive])[:, :3]
    return np.rint(255 * shown).astype(np.uint8)


def write_maps(
    *,
    predictions: str,
    grids: Sequence[str],
    descriptions: Sequence[str],
    overlays: Sequence[str],
    index: str,
) -> None:
    """Write the maps of every slide with predicted test or validation tiles, by one trained model.

    Parameters
    ----------
    predictions : path
        ``predictions.h5`` of any method, on a dataset of slides.
    grids, descriptions, overlays : sequence of path
        ``tiles/{slide}.h5``, ``slides/{slide}.json`` and ``tissue/{slide}.jpg`` of the dataset's slides, in one order.
    index : path
        JSON to write, last: what the maps are of, and of each slide its files with bytes and SHA-256. They lie in the
        folder that is called as the index without its ending; other maps in it are removed.

        ``{slide}.png``
            Probability of the second of two classes, 16-bit grey, one pixel a grid cell: 0 is no tile, else the
            probability is (grey - 1) / 65534. Of more classes there is one for each, ``{slide}.{number}.png``.
        ``{slide}.json``
            Where the pixels lie: ``l0_x``, ``l0_y`` of the upper left corner of the first, ``l0_step`` to the next,
            ``l0_size`` of a tile, ``mpp``; which file is of which class, and what its grey values mean.
        ``{slide}.jpg``
            The map on the slide's picture; of more than two classes the one that is predicted.
        ``{slide}.geojson``
            A square for each tile with the predicted class, its colour, and every class's probability (6 digits).

    Raises
    ------
    ValueError
        If a predicted slide has no grid, a predicted tile is not kept in it, or the lists are not equally long.

    Notes
    -----
    QuPath reads ``objectType``, ``classification``, ``measurements`` and ``metadata`` of a feature (since 0.4; metadata
    since 0.5). It counts pixels from the corner of the part that was scanned where a file states one (MIRAX), as do the
    squares; elsewhere, and in the other files, places are those of level 0.
    """
    if not len(grids) == len(descriptions) == len(overlays):
        found = f"{len(grids)}, {len(descriptions)} and {len(overlays)}"
        raise ValueError(f"each slide has a grid, a description and an overlay; found {found}")
    by_slide = {Path(path).stem: rest for path, *rest in zip(grids, grids, descriptions, overlays, strict=True)}
    held_out, _, said = read_predictions(predictions)
    of_set = {"test": held_out, "validation": read_validation(predictions)}
    rows = {name: rows_by_image(part) for name, part in of_set.items() if part is not None}
    slides = sorted({image for found in rows.values() for image in found})
    absent = [slide for slide in slides if slide not in by_slide]
    if absent:
        raise ValueError(f"{predictions}: every predicted slide must have a grid; found none of {listing(absent, 5)}")
    model = _Model.of(said)
    folder = Path(index).with_suffix("")
    entries = []
    for slide in slides:
        grid_file, description, overlay = by_slide[slide]
        parts = {name: (of_set[name], found[slide]) for name, found in rows.items() if slide in found}
        tiles = _PredictedTiles.of(parts, read_grid(grid_file), predictions)
        size = store.read_json(description)["size"]
        entries.append(_write_slide(tiles, model, folder, overlay=overlay, l0_width=int(size[0])))
    _remove_others(folder, {file["file"] for entry in entries for file in entry["files"]})
    store.write_json(index, {**vars(model), "folder": folder.name, "slides": entries})


@dataclass(frozen=True)
class _Model:
    """What maps are of, as every file of them says."""

    dataset: str
    task: str
    split: str
    seed: int
    features: str
    classifier: str
    classes: list[str]
    unit: str
    untrained: bool

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> _Model:
        """Take it from the attributes of predictions."""
        names = ("dataset", "task", "split", "seed", "features", "classifier", "classes", "unit")
        return cls(**{name: said[name] for name in names}, untrained=bool(said["untrained"]))

    @property
    def method(self) -> str:
        return f"{self.features}+{self.classifier}" + (" (untrained network)" if self.untrained else "")


def rows_by_image(part: Predictions) -> dict[str, np.ndarray]:
    """Return the rows of each image's tiles, by image in sorted order."""
    images = np.array(part.image, dtype=object)
    order = np.argsort(images, kind="stable") if len(images) else np.empty(0, np.int64)
    names, first = np.unique(images[order].astype(str), return_index=True)
    return dict(zip(names.tolist(), np.split(order, first[1:]), strict=True)) if len(images) else {}


@dataclass(frozen=True)
class _PredictedTiles:
    """The predicted tiles of one slide, in the order of rows, then columns."""

    grid: Grid
    tile: list[str]
    cells: np.ndarray
    probability: np.ndarray
    predicted: np.ndarray
    true: np.ndarray
    set: list[str]

    @classmethod
    def of(
        cls, parts: Mapping[str, tuple[Predictions, np.ndarray]], grid: Grid, predictions: str | Path
    ) -> _PredictedTiles:
        tile = [part.tile[row] for part, rows in parts.values() for row in rows]
        sets = [name for name, (_, rows) in parts.items() for _ in rows]
        strange = next((one for one in tile if one not in grid.kept), None)
        if strange is not None or len(set(tile)) < len(tile):
            found = f"{strange!r}, which is not kept" if strange is not None else "a tile twice"
            raise ValueError(
                f"{predictions}: predicted tiles of slide {grid.image!r} must be kept tiles of its grid, each once; "
                f"found {found}"
            )
        cells = cells_of(tile)
        order = np.lexsort(cells.T)

        def joined(column: Any) -> np.ndarray:
            return np.concatenate([column(part)[rows] for part, rows in parts.values()])[order]

        return cls(
            grid=grid,
            tile=[tile[k] for k in order],
            cells=cells[order],
            probability=joined(lambda part: part.probability),
            predicted=joined(lambda part: part.predicted),
            true=joined(lambda part: part.true),
            set=[sets[k] for k in order],
        )


def _write_slide(tiles: _PredictedTiles, model: _Model, folder: Path, *, overlay: str, l0_width: int) -> dict[str, Any]:
    """Write the files of one slide and return what the index says of them."""
    grid, classes, method = tiles.grid, model.classes, model.method
    positive = positive_class(classes)
    shown = range(len(classes)) if positive is None else [positive]
    maps = []
    for k in shown:
        name = f"{grid.image}.png" if positive is not None else f"{grid.image}.{k}.png"
        _write_map(folder / name, tiles, k, f"probability of {classes[k]} by {method} on {grid.image_in_sheet}")
        maps.append({"file": name, "class": classes[k]})
    placement = {
        name: getattr(grid, name) for name in ("l0_x", "l0_y", "l0_step", "l0_size", "mpp", "n_cols", "n_rows")
    }
    placement |= {"slide": grid.image, "image_in_sheet": grid.image_in_sheet, "maps": maps, **vars(model)}
    placement["grey"] = f"0: no tile; else probability = (grey - 1) / {STEPS}"
    store.write_json(folder / f"{grid.image}.json", placement)
    what = "predicted class" if positive is None else f"probability of {classes[positive]}"
    statement = f"{what} by {method} on {grid.image_in_sheet}: {len(tiles.tile):,} tiles"
    _write_overlay(folder / f"{grid.image}.jpg", tiles, classes, overlay, l0_width, statement)
    _write_geojson(folder / f"{grid.image}.geojson", tiles, model)
    names = [*(one["file"] for one in maps), *(f"{grid.image}{ending}" for ending in _ENDINGS[1:])]
    return {
        "slide": grid.image,
        "image_in_sheet": grid.image_in_sheet,
        "tiles": {name: tiles.set.count(name) for name in dict.fromkeys(tiles.set)},
        "files": [
            {"file": name, "bytes": (folder / name).stat().st_size, "sha256": provenance.file_sha256(folder / name)}
            for name in names
        ],
    }


def _write_map(path: Path, tiles: _PredictedTiles, number: int, statement: str) -> None:
    from PIL import Image

    grey = (1 + np.rint(STEPS * tiles.probability[:, number])).astype(np.uint16)
    canvas.save_picture(Image.fromarray(tiles.grid.place(tiles.cells, grey, 0)), path, statement)


def read_map(picture: str | Path, placement: str | Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Read one map of :func:`write_maps`.

    Parameters
    ----------
    picture, placement : path
        ``{slide}.png`` and ``{slide}.json``.

    Returns
    -------
    probability : ndarray of float64, shape (n_rows, n_cols)
        NaN where there is no tile.
    placement : dict
    """
    from PIL import Image

    with Image.open(picture) as stored:
        grey = np.asarray(stored).astype(np.float64)
    return np.where(grey == 0, np.nan, (grey - 1) / STEPS), store.read_json(placement)


def _write_overlay(
    path: Path, tiles: _PredictedTiles, classes: Sequence[str], overlay: str, l0_width: int, statement: str
) -> None:
    """Lay the map on the slide's picture, with the key of its colours below."""
    from PIL import Image

    grid = tiles.grid
    with Image.open(overlay) as stored:
        picture = stored.convert("RGB")
    scale = picture.width / l0_width
    colours = coloured(tiles.probability, tiles.predicted, classes)
    opaque = np.full((len(colours), 1), round(255 * WEIGHT), dtype=np.uint8)
    laid = Image.fromarray(grid.place(tiles.cells, np.hstack([colours, opaque]), 0), "RGBA")
    left, top = round(grid.l0_x * scale), round(grid.l0_y * scale)
    right = round((grid.l0_x + grid.n_cols * grid.l0_step) * scale)
    bottom = round((grid.l0_y + grid.n_rows * grid.l0_step) * scale)
    laid = laid.resize((max(right - left, 1), max(bottom - top, 1)), Image.Resampling.NEAREST)
    picture.paste(laid, (left, top), laid)
    key = _key(picture.width, classes)
    sheet = Image.new("RGB", (max(picture.width, key.width), picture.height + key.height), canvas.PAPER)
    sheet.paste(picture, (0, 0))
    sheet.paste(key, (0, picture.height))
    with store.replacing(path) as part:
        # not optimised: where neighbours differ much, as single tiles do, Pillow's buffer for that is too small
        sheet.save(part, format="JPEG", quality=88, subsampling=0, comment=statement.encode())


def _key(width: int, classes: Sequence[str]) -> Any:
    """Return the key of a map's colours, as wide as asked, or as its longest entry is."""
    import matplotlib
    from matplotlib import font_manager
    from PIL import Image, ImageDraw, ImageFont

    file = font_manager.findfont(font_manager.FontProperties(family="DejaVu Sans"))
    font = ImageFont.truetype(file, _KEY_TEXT)
    positive = positive_class(classes)
    entries: list[tuple[Any, str]] = []
    if positive is None:
        entries = [(np.array([[rgb(colour)]], np.uint8), name) for colour, name in _named_colours(classes)]
    else:
        bar = matplotlib.colormaps[COLOURS](np.linspace(0, 1, 96))[None, :, :3]
        entries = [(np.rint(255 * bar).astype(np.uint8), f"probability of {classes[positive]}, 0 to 1")]
    needed = [max(swatch.shape[1], 20) + 8 + round(font.getlength(word)) + 18 for swatch, word in entries]
    width = max(width, 4 + max(needed))
    places, left, top = [], 4, 4
    for (swatch, _), one in zip(entries, needed, strict=True):
        if left > 4 and left + one > width:
            left, top = 4, top + _KEY_HEIGHT
        places.append((left, top, max(swatch.shape[1], 20)))
        left += one
    key = Image.new("RGB", (width, top + _KEY_HEIGHT), canvas.PAPER)
    brush = ImageDraw.Draw(key)
    for (swatch, word), (left, top, wide) in zip(entries, places, strict=True):
        key.paste(Image.fromarray(swatch).resize((wide, 20), Image.Resampling.NEAREST), (left, top + 3))
        brush.text((left + wide + 8, top), word, fill=canvas.INK, font=font)
    return key


def _named_colours(classes: Sequence[str]) -> Iterable[tuple[str, str]]:
    return zip(class_colours(classes), classes, strict=True)


def _write_geojson(path: Path, tiles: _PredictedTiles, model: _Model) -> None:
    """Write the tiles as QuPath's tile objects, a line each: a whole slide is never held as objects."""
    grid, classes = tiles.grid, model.classes
    looks = [{"name": name, "color": list(rgb(colour))} for colour, name in _named_colours(classes)]
    said = {**vars(model), "slide": grid.image, "image_in_sheet": grid.image_in_sheet}
    # from the corner of the scanned part, as QuPath counts
    origin = {"l0_x": grid.l0_x, "l0_y": grid.l0_y}
    with store.replacing(path) as part, open(part, "w", encoding="utf-8") as file:
        head = json.dumps({"properties": {**said, "origin": origin}}, sort_keys=True, ensure_ascii=False)
        file.write(f'{{"type": "FeatureCollection",\n{head[1:-1]},\n"features": [')
        for k, name in enumerate(tiles.tile):
            left, top = (int(one) * grid.l0_step for one in tiles.cells[k])
            right, bottom = left + grid.l0_size, top + grid.l0_size
            metadata = {"set": tiles.set[k]}
            if tiles.true[k] != NO_LABEL:
                metadata["label"] = classes[tiles.true[k]]
            feature = {
                "type": "Feature",
                "geometry": {
                    "type": "Polygon",
                    "coordinates": [[[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]],
                },
                "properties": {
                    "objectType": "tile",
                    "name": name,
                    "isLocked": True,
                    "classification": looks[tiles.predicted[k]],
                    "measurements": {
                        f"probability {one}": round(float(value), 6)
                        for one, value in zip(classes, tiles.probability[k], strict=True)
                    },
                    "metadata": metadata,
                },
            }
            file.write(("\n" if k == 0 else ",\n") + json.dumps(feature, ensure_ascii=False, separators=(",", ":")))
        file.write("\n]}\n")


def _remove_others(folder: Path, written: set[str]) -> None:
    """Remove maps of slides that are not predicted any more."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix in _ENDINGS and path.name not in written:
            path.unlink()
