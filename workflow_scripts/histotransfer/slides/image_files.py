"""Patches at their own shape, for recipes that crop them to their largest square at random (``maximal_crop``).

Each image is resized until its shorter side is that of the network's tiles, and lies in the file as a band: rows of
that many pixels, one after the other along its longer side. Any of its largest squares is then a stretch of rows,
whatever the image's shape, and :class:`histotransfer.tables.tile_pixels.TilePixels` reads nothing else.
"""

from __future__ import annotations

import hashlib
import logging
from typing import Any

import numpy as np

from histotransfer import store
from histotransfer.sheets import samples
from histotransfer.slides import patches, pixels

log = logging.getLogger("histotransfer")


# ASSUME: of an image that is longer than this many times its shorter side, the ends are left out: they would be in
# few squares, and a picture of one row of pixels, enlarged, would fill the memory.
LONGEST = 16


def write_images(
    *,
    sheet: str,
    table: str,
    images: str,
    kind: str,
    root: str,
    part: str,
    n_parts: int,
    px: int,
    grayscale: bool,
) -> None:
    """Write the images of one part of a table of patches, each at its own shape.

    Parameters
    ----------
    sheet : path
        The sample sheet, of kind ``patches``.
    table : path
        What :func:`histotransfer.sheets.samples.check_table` wrote: the sheet has been checked.
    images : path
        The HDF5 file to write: ``bands`` uint8 (total, px, 3), raw; ``start`` and ``length`` int64 (n,), the rows of
        `bands` that an image fills; ``upright`` bool (n,), whether these are its rows (else its columns); ``tile`` and
        ``image`` texts (n,); and the group ``excluded`` and attributes of
        :func:`histotransfer.slides.patches.write_part`.
    kind, root, part, n_parts
        See :func:`histotransfer.sheets.samples.rows_of_part`.
    px : int
        The shorter side in pixels; smaller images are enlarged to it, and ``upsampled`` says so.
    grayscale : bool
        Three equal channels of luma.

    Raises
    ------
    ValueError
        If the table is not one of patches: windows around points are square.
    """
    if kind != "patches":
        raise ValueError(f"images at their own shape are those of kind patches; found kind {kind}")
    rows, smallest = patches.PartRows(), px
    attributes = {"slide": part, "px": px, "grayscale": grayscale, "kernel": pixels.KERNEL}
    with store.writing_hdf5(images, attributes) as file:
        bands = _Bands(file, px)
        for row in samples.rows_of_part(sheet=sheet, kind=kind, root=root, part=part, n_parts=n_parts):
            try:
                picture = patches.open_image(row.path)
            except patches.UnusableImageError as error:
                rows.exclude(row, error)
                continue
            smallest = min(smallest, *picture.shape[:2])
            picture = shortened(picture, px)
            bands.append(pixels.in_grey(picture) if grayscale else picture)
            rows.keep(row)
        bands.write_places(file)
        rows.describe(file, bands.digest, upsampled=smallest < px)
    log.info("%s: %d images of at least %d px, %d rows excluded", part, len(rows.tile), px, len(rows.excluded))


class _Bands:
    """The dataset ``bands`` of a file, and where each image lies in it."""

    def __init__(self, file: Any, px: int) -> None:
        self._data = file.create_dataset("bands", (0, px, 3), np.uint8, maxshape=(None, px, 3), chunks=(px, px, 3))
        self._starts: list[int] = []
        self._lengths: list[int] = []
        self._upright: list[bool] = []
        self.digest = hashlib.sha256()

    def append(self, picture: np.ndarray) -> None:
        """Add an image whose shorter side is that of the bands: its rows, or its columns where it is wider."""
        upright = picture.shape[0] >= picture.shape[1]
        band = np.ascontiguousarray(picture if upright else picture.swapaxes(0, 1))
        start = len(self._data)
        self._data.resize(start + len(band), axis=0)
        self._data[start:] = band
        self.digest.update(repr(picture.shape).encode())
        self.digest.update(band)
        self._starts.append(start)
        self._lengths.append(len(band))
        self._upright.append(upright)

    def write_places(self, file: Any) -> None:
        """Write ``start``, ``length`` and ``upright`` of every image."""
        file["start"] = np.array(self._starts, np.int64)
        file["length"] = np.array(self._lengths, np.int64)
        file["upright"] = np.array(self._upright, bool)


def shortened(picture: np.ndarray, px: int) -> np.ndarray:
    """Return a picture resized until its shorter side is `px`, antialiased; the same array where it is already.

    Parameters
    ----------
    picture : ndarray of shape (h, w, 3), uint8
    px : int

    Returns
    -------
    ndarray of shape (px, m, 3) or (m, px, 3), uint8
        m is at least `px`, and at most :data:`LONGEST` times as much: of a longer picture, the middle is kept.
    """
    from PIL import Image

    short = min(picture.shape[:2])
    top, left = (max(side - LONGEST * short, 0) // 2 for side in picture.shape[:2])
    picture = picture[top : top + LONGEST * short, left : left + LONGEST * short]
    if short == px:
        return picture
    height, width = (max(px, round(side * px / short)) for side in picture.shape[:2])
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0))
