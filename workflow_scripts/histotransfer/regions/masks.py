"""Regions as a picture: one channel whose values are their names, 0 outside, at any scale of the slide."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from histotransfer.problems import Problems, counted, listing
from histotransfer.regions.areas import AnnotationError

log = logging.getLogger("histotransfer")


#: Pillow's modes of one channel: 1 bit, 8 bits, a palette, 16 bits.
MODES = ("1", "L", "P", "I;16", "I;16B", "I;16L", "I;16N", "I")

#: In a picture of layers, what lies in none.
OUTSIDE = 255

_BLOCK = 1 << 22


def read(path: str, *, l0_size: tuple[int, int], layer_of: Mapping[str, int], legal_names: Sequence[str]) -> np.ndarray:
    """Read a mask as the layers that its values stand for.

    Parameters
    ----------
    path : path
        PNG or TIFF of one channel; of a TIFF with several pages, the first.
    l0_size : tuple of int
        Width and height of the slide, which the mask covers.
    layer_of : mapping
        Number of the layer, below :data:`OUTSIDE`, that each name stands for; a value is named as it is written, ``1``.
    legal_names : sequence of str
        The names as a message shows them.

    Returns
    -------
    ndarray of shape (h, w), uint8
        :data:`OUTSIDE` where the mask is 0.

    Raises
    ------
    AnnotationError
        If it is no such picture, if it has another aspect ratio than the slide, or a value without a name.
    """
    problems = Problems()
    values = _values(path, l0_size, problems)
    if values is None:
        raise AnnotationError(path, problems)
    counts = np.zeros(1 << 16, np.int64)
    rows = max(1, _BLOCK // values.shape[1])
    for start in range(0, len(values), rows):
        counts += np.bincount(values[start : start + rows].ravel(), minlength=len(counts))
    layers = np.full(len(counts), OUTSIDE, np.uint8)
    for value in np.flatnonzero(counts).tolist():
        if value == 0:
            continue
        if str(value) in layer_of:
            layers[value] = layer_of[str(value)]
        else:
            legal = f"must be 0 (outside) or a name that the task's regions list: {listing(legal_names)}"
            problems.add("values", legal, f"{value} in {counted(int(counts[value]), 'pixel')}")
    if problems:
        raise AnnotationError(path, problems)
    picture = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), rows):
        picture[start : start + rows] = layers[values[start : start + rows]]
    return picture


def _values(path: str, l0_size: tuple[int, int], problems: Problems) -> np.ndarray | None:
    """Return the values of a mask, unsigned integers, or None and a problem."""
    from PIL import Image, UnidentifiedImageError

    largest = 2 * Image.MAX_IMAGE_PIXELS
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "TIFF")) as image:
                if not _fits(image, l0_size, problems):
                    return None
                if getattr(image, "n_frames", 1) > 1:
                    log.info("%s has %d pages, of which the first is read", path, image.n_frames)
                values = np.asarray(image)
    except FileNotFoundError:
        raise
    except UnidentifiedImageError:
        problems.add("file", "a mask must be a PNG or TIFF image", "none that Pillow can read")
        return None
    except Image.DecompressionBombError:
        legal = f"a mask must have at most {largest:,} pixels: reduce it, without interpolation"
        problems.add("file", legal, "more")
        return None
    # what Pillow raises on broken image data
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        problems.add("file", "a mask must be a whole PNG or TIFF image", f"a broken one ({error})")
        return None
    if values.dtype == bool:
        return values.astype(np.uint8)
    if values.size and not 0 <= int(values.min()) <= int(values.max()) < 1 << 16:
        problems.add("values", "must be whole numbers of at most 16 bits", f"{values.min()} to {values.max()}")
        return None
    return values.astype(np.uint16) if values.dtype.itemsize > 1 else values


def _fits(image: Any, l0_size: tuple[int, int], problems: Problems) -> bool:
    if image.mode not in MODES:
        legal = "a mask has one channel, whose values are the names of regions (Pillow's modes 1, L, P and I;16)"
        problems.add("file", legal, f"mode {image.mode}")
        return False
    (width, height), (l0_width, l0_height) = image.size, l0_size
    # a side that was rounded is off by less than one pixel of the mask
    by_width, by_height = l0_height * width / l0_width, l0_width * height / l0_height
    if abs(by_width - height) > 1 and abs(by_height - width) > 1:
        legal = (
            f"a mask covers its slide of {l0_width} x {l0_height} px, so it must be {width} x {round(by_width)} px or "
        )
        legal += "another size of that shape (it may be the mask of another slide)"
        problems.add("file", legal, f"{width} x {height} px")
        return False
    return True
