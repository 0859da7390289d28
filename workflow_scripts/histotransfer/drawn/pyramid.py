"""Drawn pixels as a tiled, pyramidal TIFF with its resolution."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from histotransfer import store

#: Resolution of a drawn slide at level 0, µm per pixel, and the objective power that goes with it.
MPP = 0.5
OBJECTIVE_POWER = 20
#: Quality and tile side of the JPEG pyramid.
JPEG_QUALITY = 82
TILE = 256


def encode_pyramid(rgb: np.ndarray) -> bytes:
    """Return `rgb`, uint8 of shape (height, width, 3), as an Aperio-like TIFF pyramid at :data:`MPP`."""
    import pyvips

    height, width = rgb.shape[:2]
    image = pyvips.Image.new_from_array(rgb).copy(interpretation="srgb")
    description = (
        f"Aperio Image Library (drawn by histotransfer)\n{width}x{height} ({TILE}x{TILE}) JPEG/RGB Q={JPEG_QUALITY}"
        f"|AppMag = {OBJECTIVE_POWER}|MPP = {MPP}"
    )
    image.set_type(pyvips.GValue.gstr_type, "image-description", description)
    return image.tiffsave_buffer(
        tile=True,
        pyramid=True,
        tile_width=TILE,
        tile_height=TILE,
        compression="jpeg",
        Q=JPEG_QUALITY,
        resunit="cm",
        xres=1000 / MPP,
        yres=1000 / MPP,
    )


def write_slide(slide_file: str | Path, rgb: np.ndarray, *, truncated: bool = False) -> None:
    """Write a slide of :func:`encode_pyramid`; a truncated one is cut off in the middle of the file.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    content = encode_pyramid(rgb)
    if truncated:
        # The directory of the first level lies behind its pixels: without it nothing opens the file.
        content = content[: len(content) // 2]
    with store.replacing(slide_file) as part:
        part.write_bytes(content)
