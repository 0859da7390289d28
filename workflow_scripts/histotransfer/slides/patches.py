"""Tiles that are not cut from slides: image files that are patches already, and windows around points in images.

A table of such rows is streamed and put into parts by a hash of the image's id, so that a million rows are never
held, an image is opened once, and an added row changes its own part.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from histotransfer import store
from histotransfer.definitions import Crop
from histotransfer.sheets import samples
from histotransfer.slides.pixels import KERNEL, in_grey, resized

log = logging.getLogger("histotransfer")


# Rows written at a time: a few megabytes of pixels.
BLOCK = 64


class UnusableImageError(Exception):
    """An image file from which no tile can be made; becomes the row's reason."""


def open_image(path: str) -> np.ndarray:
    """Return an image file as RGB.

    Returns
    -------
    ndarray of shape (h, w, 3), uint8
        What is transparent lies on white, as on a slide where the scanner has no pixels.

    Raises
    ------
    UnusableImageError
        If the file is missing, empty, truncated, no image, larger than Pillow takes, or has more than 8 bits a channel.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            # Pillow opens 16-bit colours as if they had 8; what it unpacks from them is the mode in the file
            in_file = " ".join(str(tile[3]) for tile in image.tile)
            if image.mode.startswith(("I", "F")) or ";16" in in_file:
                raise UnusableImageError(f"pixels of mode {image.mode}, more than 8 bits: 8 bits a channel are needed")
            if image.has_transparency_data:
                white = Image.new("RGBA", image.size, "white")
                return np.asarray(Image.alpha_composite(white, image.convert("RGBA")).convert("RGB"))
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError:
        raise UnusableImageError("no such file") from None
    except UnidentifiedImageError:
        raise UnusableImageError("not an image that Pillow can read") from None
    # Pillow reports broken image data by the first three
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UnusableImageError(" ".join(str(error).split()) or type(error).__name__) from error


def centred_square(picture: np.ndarray) -> np.ndarray:
    """Return the largest centred square of a picture (Mormont et al. 2018, section 3.1)."""
    height, width = picture.shape[:2]
    size = min(height, width)
    top, left = (height - size) // 2, (width - size) // 2
    return picture[top : top + size, left : left + size]


def window(picture: np.ndarray, *, x: float, y: float, size: int, border: str) -> np.ndarray:
    """Return a square window around a point.

    Parameters
    ----------
    picture : ndarray of shape (h, w, 3), uint8
    x, y : float
        The point, in pixels of the picture; its pixel stands right below and right of the middle of an even window.
    size : int
        Edge length in pixels.
    border : {'exclude', 'reflect'}
        What a window that reaches beyond the picture does: refuse, or mirror the picture at its edge.

    Returns
    -------
    ndarray of shape (size, size, 3), uint8

    Raises
    ------
    UnusableImageError
        If the point lies outside the picture, or the window does and `border` is ``exclude``.
    """
    height, width = picture.shape[:2]
    if not (0 <= x < width and 0 <= y < height):
        raise UnusableImageError(f"point ({x:g}, {y:g}) lies outside the image of {width} x {height} px")
    left, top = int(x) - size // 2, int(y) - size // 2
    if min(left, top) >= 0 and left + size <= width and top + size <= height:
        return picture[top : top + size, left : left + size]
    if border == "exclude":
        raise UnusableImageError(f"a window of {size} px around ({x:g}, {y:g}) reaches beyond the image's edge")
    return picture[np.ix_(_mirrored(top, size, height), _mirrored(left, size, width))]


def _mirrored(start: int, size: int, length: int) -> np.ndarray:
    """Return the indices of `size` pixels from `start` on, in a row of `length` that is mirrored at both ends."""
    places = np.arange(start, start + size) % (2 * length)
    return np.minimum(places, 2 * length - 1 - places)


@dataclass
class PartRows:
    """The rows of one part of a table: those that became tiles or images, and those that did not, with the reason."""

    tile: list[str] = field(default_factory=list)
    image: list[str] = field(default_factory=list)
    excluded: list[tuple[str, str, str]] = field(default_factory=list)

    def keep(self, row: samples.TableRow) -> None:
        """Add a row that was written."""
        self.tile.append(row.tile)
        self.image.append(row.image)

    def exclude(self, row: samples.TableRow, error: UnusableImageError) -> None:
        """Add a row that could not be written."""
        self.excluded.append((row.tile, row.image, str(error)))

    def describe(self, file: Any, digest: Any, *, upsampled: bool) -> None:
        """Write ``tile``, ``image``, the group ``excluded`` and the attributes of a part's file.

        Parameters
        ----------
        file : h5py.File
        digest : hashlib hash
            Of the pixels; names are added to it.
        upsampled : bool
            Whether a picture was enlarged.
        """
        store.write_texts(file, "tile", self.tile)
        store.write_texts(file, "image", self.image)
        excluded = store.create_group(file, "excluded")
        for column, name in enumerate(("tile", "image", "reason")):
            store.write_texts(excluded, name, [row[column] for row in self.excluded])
        names = "\n".join([*self.tile, *self.image]).encode()
        digest.update(names)
        none_kept = f"none of {len(self.excluded)} rows gave a tile" if self.excluded else "no rows"
        attributes = {
            "status": "ok" if self.tile else "no tiles",
            "reason": "" if self.tile else none_kept,
            "upsampled": upsampled,
            "tiles_digest": hashlib.sha256(names).hexdigest(),
            "digest": digest.hexdigest(),
            "notice": "",
        }
        store.set_attributes(file, attributes)


def write_part(
    *,
    sheet: str,
    table: str,
    pixels: str,
    kind: str,
    root: str,
    part: str,
    n_parts: int,
    px: int,
    crop: Crop | None,
    grayscale: bool,
) -> None:
    """Write the tiles of one part of a table at `px` pixels across.

    Parameters
    ----------
    sheet : path
        The sample sheet, of kind ``patches`` or ``points``.
    table : path
        What :func:`histotransfer.sheets.samples.check_table` wrote: the sheet has been checked.
    pixels : path
        The HDF5 file to write, as :func:`histotransfer.slides.pixels.write_pixels` does, and a group ``excluded`` with
        ``tile``, ``image`` and ``reason`` of every row of which no tile could be made. ``coords`` are the points
        themselves, in pixels of the image, and 0, 0 of patches.
    kind, root, part, n_parts
        See :func:`histotransfer.sheets.samples.rows_of_part`.
    px : int
        Pixels across; small windows are enlarged to it, and ``upsampled`` says so.
    crop : Crop or None
        The windows around points; None for patches.
    grayscale : bool
        Three equal channels of luma.
    """
    rows, coords = PartRows(), []
    digest, smallest = hashlib.sha256(), px
    with store.writing_hdf5(pixels, {"slide": part, "px": px, "grayscale": grayscale, "kernel": KERNEL}) as file:
        data = file.create_dataset("tiles", (0, px, px, 3), np.uint8, maxshape=(None, px, px, 3), chunks=(1, px, px, 3))
        block = np.empty((BLOCK, px, px, 3), np.uint8)
        filled = 0
        for row, picture in _pictures(sheet, kind, root, part, n_parts, crop):
            if isinstance(picture, UnusableImageError):
                rows.exclude(row, picture)
                continue
            smallest = min(smallest, picture.shape[0])
            tile = resized(picture, px)
            block[filled] = in_grey(tile) if grayscale else tile
            rows.keep(row)
            coords.append((int(row.x or 0), int(row.y or 0)))
            filled += 1
            if filled == BLOCK:
                _append(data, block, digest)
                filled = 0
        _append(data, block[:filled], digest)
        file.create_dataset("coords", data=np.array(coords, np.int64).reshape(-1, 2))
        rows.describe(file, digest, upsampled=smallest < px)
    log.info("%s: %d tiles of %d px, %d rows excluded", part, len(rows.tile), px, len(rows.excluded))


def _append(data: Any, block: np.ndarray, digest: Any) -> None:
    n = len(data)
    data.resize(n + len(block), axis=0)
    if len(block):
        data[n:] = block
        digest.update(np.ascontiguousarray(block))


def _pictures(
    sheet: str, kind: str, root: str, part: str, n_parts: int, crop: Crop | None
) -> Iterator[tuple[samples.TableRow, np.ndarray | UnusableImageError]]:
    """Yield each row of a part with its square picture, or with why there is none; rows of an image together."""
    rows = samples.rows_of_part(sheet=sheet, kind=kind, root=root, part=part, n_parts=n_parts)
    if kind == "patches":
        for row in rows:
            try:
                yield row, centred_square(open_image(row.path))
            except UnusableImageError as error:
                yield row, error
        return
    opened: str | None = None
    picture: np.ndarray | UnusableImageError
    for row in sorted(rows, key=lambda row: (row.image, row.row)):
        if opened != row.path:
            opened = row.path
            try:
                picture = open_image(row.path)
            except UnusableImageError as error:
                picture = error
        if isinstance(picture, UnusableImageError):
            yield row, picture
            continue
        try:
            yield row, window(picture, x=row.x, y=row.y, size=crop.px, border=crop.border)
        except UnusableImageError as error:
            yield row, error
