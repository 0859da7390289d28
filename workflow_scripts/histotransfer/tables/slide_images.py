"""Slides at low resolution on the grid of their tiles: what a segmentation network sees that has no features.

A slide is reduced so that each cell of the grid (one step of it) has a whole number of pixels; a cell of a map and its
pixels are then found in one another without a coordinate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from histotransfer import store
from histotransfer.definitions import Tiling
from histotransfer.slides import reader
from histotransfer.slides.grid import KeptTiles, read_kept
from histotransfer.slides.pixels import FINER, LARGEST_READ, in_grey
from histotransfer.tables.columns import Columns
from histotransfer.tables.slide_files import FileKind, read_contents

_FILES = FileKind("slide image", content="image", use="maps are cut from")

#: What stands where other features name their network, their layer and their weights.
SOURCE, LAYER = "the slide", "reduced"
WEIGHTS = "none: the slide itself, reduced"
#: How pixels are reduced; written into every file.
KERNEL = "area averaging, edges by the share of the pixel that they cover"
#: What stands on a canvas beyond the slide's own grid: glass.
# ASSUME white, the colour of light that went through nothing, as a slide goes on beyond what was scanned
GLASS = 255


@dataclass(frozen=True)
class ImageIndex:
    """The tiles of slide images, and what it takes to read any part of the images.

    Attributes
    ----------
    tile, image : list of str
        Each row's tile and its slide: files in the order of slide ids, each in that of its tiles.
    columns : list of Columns
        One entry for all columns.
    n_features : int
        Values of a pixel: red, green and blue.
    cell_px : int
        Edge (pixels) of a grid cell.
    attributes : dict
        As :attr:`histotransfer.tables.feature_matrix.MatrixIndex.attributes`: network "", weights :data:`WEIGHTS`,
        untrained False, ``tiles_digests`` by slide, ``versions`` of the libraries that read the slides, and
        ``cell_px``.
    """

    tile: list[str]
    image: list[str]
    columns: list[Columns]
    n_features: int
    cell_px: int
    attributes: dict[str, Any]
    _files: dict[str, Path]

    def window(self, image: str, *, first_row: int, first_col: int, size: int) -> np.ndarray:
        """Read the part of a slide that lies under a canvas.

        Parameters
        ----------
        image : str
            The slide.
        first_row, first_col : int
            Grid cell at the canvas' upper left corner; may lie beyond the grid.
        size : int
            Edge of the canvas in cells.

        Returns
        -------
        ndarray of uint8, shape (size * cell_px, size * cell_px, 3)
            :data:`GLASS` beyond the grid.

        Raises
        ------
        ValueError
            If the file cannot be read any more, naming it.
        """
        edge = size * self.cell_px
        window = np.full((edge, edge, 3), GLASS, np.uint8)
        path = self._files[image]
        with _FILES.opened(path) as file:
            pixels = file["pixels"]
            spans = []
            for first, length in ((first_row, pixels.shape[0]), (first_col, pixels.shape[1])):
                start = first * self.cell_px
                low, high = max(start, 0), min(start + edge, length)
                spans.append((slice(low, high), slice(low - start, high - start)))
            (rows, to_rows), (columns, to_columns) = spans
            if rows.start < rows.stop and columns.start < columns.stop:
                try:
                    window[to_rows, to_columns] = pixels[rows, columns]
                except OSError as error:
                    raise ValueError(f"{_FILES.damaged(path)}: {error}") from error
        return window


def write_slide_image(
    *, slide_file: str | list[str], grid: str, image: str, cell_px: int, tiling: Tiling, code: str = ""
) -> None:
    """Write a slide at low resolution, `cell_px` pixels a step of its grid.

    Parameters
    ----------
    slide_file : path, or empty list
        The slide's file; not needed for a slide that is already unusable.
    grid : path
        What :func:`histotransfer.slides.grid.write_grid` wrote.
    image : path
        The HDF5 file to write: ``pixels`` uint8 (n_rows * cell_px, n_cols * cell_px, 3), of the whole grid, tissue and
        background as they were scanned; ``tile``, ``image`` texts (n,) and ``coords`` int64 (n, 2) of the kept tiles.
        A slide that turns out to be unreadable gets none, and ``status`` and ``reason``.
    cell_px : int
    tiling : Tiling
        Of which ``level`` (``auto`` or 0), ``grayscale`` and ``upsample`` are used.
    code : str
        Digest of the code that reads.

    Raises
    ------
    ValueError
        If `cell_px` asks for finer pixels than the slide's, and the tiling does not say ``upsample: true``.
    """
    kept = read_kept(grid)
    known = kept.attributes
    status, reason = known["status"], known["reason"]
    attributes = {name: known.get(name, "") for name in ("slide", "image_in_sheet", "tiles_digest", "notice", "mpp")}
    attributes |= {"cell_px": cell_px, "kernel": KERNEL, "grayscale": tiling.grayscale}
    if status == "ok":
        place = _Place.read(grid, known, cell_px)
        if not tiling.upsample:
            _refuse_upsampling(known, place)
        try:
            with reader.Slide(slide_file) as slide, store.writing_hdf5(image, {}) as file:
                index = slide.level_for(place.downsample, finer=FINER, strict=tiling.level == 0)
                shape = (place.n_rows * cell_px, place.n_cols * cell_px, 3)
                pixels = file.create_dataset("pixels", shape, np.uint8)
                for rows, columns, block in _blocks(slide, index, place):
                    pixels[rows, columns] = in_grey(block) if tiling.grayscale else block
                attributes |= {
                    "l0_x": place.l0_x,
                    "l0_y": place.l0_y,
                    "l0_step": place.l0_step,
                    "downsample": place.downsample,
                    "level": index,
                }
                _describe(file, kept, attributes, status, reason, tiling, code)
            return
        except reader.UnreadableSlideError as error:
            status, reason = "unreadable", str(error)
    with store.writing_hdf5(image, {}) as file:
        file.create_dataset("pixels", (0, 0, 3), np.uint8)
        _describe(file, None, attributes, status, reason, tiling, code)


def open_images(images: Sequence[str | Path], *, cell_px: int) -> ImageIndex:
    """Read which tiles slide images hold.

    Parameters
    ----------
    images : list of path
        Files of :func:`write_slide_image`; those whose status is not ``ok`` hold no tiles and are passed over.
    cell_px : int
        What they must have.

    Returns
    -------
    ImageIndex

    Raises
    ------
    ValueError
        If a file is missing, damaged or of another size, a slide has two files, or no file has tiles.
    """

    def checked(path: Path, file: Any, tile: list[str], image: list[str]) -> tuple[str, Path]:
        found, shape = int(file.attrs["cell_px"]), file["pixels"].shape
        if found != cell_px:
            raise ValueError(f"slide image {path}: a cell must have {cell_px} px; found {found} px")
        if shape[0] % cell_px or shape[1] % cell_px or shape[2:] != (3,):
            raise ValueError(
                f"{_FILES.damaged(path)}: its pixels must have the shape (rows * {cell_px}, columns * {cell_px}, 3); "
                f"found {shape}"
            )
        return str(file.attrs["slide"]), path

    contents = read_contents(images, _FILES, checked)
    return ImageIndex(
        tile=contents.tile,
        image=contents.image,
        columns=[Columns(network=SOURCE, layer=LAYER, start=0, stop=3)],
        n_features=3,
        cell_px=cell_px,
        attributes={
            "network": "",
            "weights": WEIGHTS,
            "untrained": False,
            "layer": LAYER,
            "cell_px": cell_px,
            **contents.attributes,
        },
        _files=dict(contents.parts),
    )


def area_means(picture: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the means of a picture over rectangles, edges counted by the share of the pixel that they cover.

    Parameters
    ----------
    picture : ndarray of shape (h, w, 3), uint8
    rows, columns : ndarray of float, shapes (n + 1,) and (m + 1,)
        Edges of the rectangles in pixels of the picture, ascending: each begins where the one before it ends. What
        lies beyond the picture, by the rounding of a level's size, is left out of the means.

    Returns
    -------
    ndarray of shape (n, m, 3), uint8
    """
    rows, columns = np.clip(rows, 0, picture.shape[0]), np.clip(columns, 0, picture.shape[1])
    sums = _sums(_sums(picture, rows).swapaxes(0, 1), columns).swapaxes(0, 1)
    # divided last: where a pixel of the result covers whole pixels, sums are of whole numbers and exact
    return np.rint(sums / np.outer(np.diff(rows), np.diff(columns))[:, :, None]).astype(np.uint8)


def _sums(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the sums of rows of values between edges, a row that is cut by its share: float64 (n_edges - 1, ...)."""
    first = np.floor(edges).astype(int)
    share = (edges - first).reshape(-1, *[1] * (values.ndim - 1))
    values = np.concatenate([values, np.zeros_like(values[:1])])
    kind = np.uint32 if values.dtype == np.uint8 else np.float64
    whole = np.add.reduceat(values, first, axis=0, dtype=kind)[:-1].astype(np.float64)
    # where nothing lies between, reduceat gives the row itself
    whole[first[1:] == first[:-1]] = 0.0
    cut = values[first] * share
    return whole + cut[1:] - cut[:-1]


@dataclass(frozen=True)
class _Place:
    """Where the grid's cells lie in level 0, and how many pixels they get."""

    l0_x: float
    l0_y: float
    l0_step: int
    n_rows: int
    n_cols: int
    cell_px: int

    @classmethod
    def read(cls, grid: str, known: dict[str, Any], cell_px: int) -> _Place:
        import h5py

        with h5py.File(grid, "r") as file:
            col, row, l0_x, l0_y = (file[name][:] for name in ("col", "row", "l0_x", "l0_y"))
        # ASSUME of tiles that overlap, or stand apart, a cell is the middle of its tile, one step wide
        inset = (int(known["l0_size"]) - int(known["l0_step"])) / 2
        return cls(
            l0_x=float(l0_x.min() + inset),
            l0_y=float(l0_y.min() + inset),
            l0_step=int(known["l0_step"]),
            n_rows=int(row.max()) + 1,
            n_cols=int(col.max()) + 1,
            cell_px=cell_px,
        )

    @property
    def downsample(self) -> float:
        """Level-0 pixels per pixel."""
        return self.l0_step / self.cell_px


def _refuse_upsampling(known: dict[str, Any], place: _Place) -> None:
    mpp, name = float(known["mpp"]), known["image_in_sheet"]
    if place.downsample * (1 + reader.RESOLUTION_TOLERANCE) < 1:
        raise ValueError(
            f"slide {name}: cells of {place.l0_step} px of level 0 reduced to {place.cell_px} px ask for "
            f"{place.downsample * mpp:.4g} um a pixel, finer than the slide's {mpp:.4g}; cell_px must be at most "
            f"{place.l0_step}, or the tiling must say upsample: true; found {place.cell_px}"
        )


def _blocks(slide: reader.Slide, index: int, place: _Place) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Yield the picture block by block: rows and columns of its pixels, and the pixels."""
    level = slide.levels[index]
    ratio = place.downsample / level.downsample
    cell = place.cell_px * ratio
    # cells of one row are read together, in no more pixels than stay in the processor's cache
    wide = min(place.n_cols, max(1, int(LARGEST_READ / cell**2)))
    top, left = place.l0_y / level.downsample, place.l0_x / level.downsample
    for row in range(place.n_rows):
        rows = slice(row * place.cell_px, (row + 1) * place.cell_px)
        y = top + ratio * np.arange(rows.start, rows.stop + 1)
        for col in range(0, place.n_cols, wide):
            columns = slice(col * place.cell_px, min(col + wide, place.n_cols) * place.cell_px)
            x = left + ratio * np.arange(columns.start, columns.stop + 1)
            (y_0, y_1), (x_0, x_1) = _whole(y, level.height), _whole(x, level.width)
            part = slide.read(level=index, level_x=x_0, level_y=y_0, width=x_1 - x_0, height=y_1 - y_0)
            yield rows, columns, area_means(part, y - y_0, x - x_0)


def _whole(edges: np.ndarray, length: int) -> tuple[int, int]:
    """Return the whole pixels of a level from the first edge to the last, at least one."""
    low = min(max(int(np.floor(edges[0])), 0), length - 1)
    return low, min(max(int(np.ceil(edges[-1])), low + 1), length)


def _describe(
    file: Any, kept: KeptTiles | None, attributes: dict[str, Any], status: str, reason: str, tiling: Tiling, code: str
) -> None:
    tile = [] if kept is None else kept.tile
    store.write_texts(file, "tile", tile)
    store.write_texts(file, "image", [attributes["slide"]] * len(tile))
    file.create_dataset("coords", data=np.empty((0, 2), np.int64) if kept is None else kept.coords)
    made_by = [
        attributes["tiles_digest"],
        attributes["cell_px"],
        tiling.level,
        tiling.grayscale,
        KERNEL,
        status,
        reason,
        code,
    ]
    digest = hashlib.sha256("\n".join(map(str, made_by)).encode()).hexdigest()
    store.set_attributes(file, {**attributes, "status": status, "reason": reason, "digest": digest})
