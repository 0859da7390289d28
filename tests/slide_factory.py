"""Small real files for tests: slides, broken slides, patches, images with points, and their sample sheets.

Everything is made by the real libraries and has to be read by them. Nothing here is random without a seed.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

#: Colours of the kinds of tissue that :func:`write_slide` and the other writers know: kind i has row i modulo 4.
COLOURS = np.array([[205, 110, 160], [120, 80, 170], [170, 60, 120], [90, 120, 190]], dtype=np.float32)


def tissue_pixels(
    size: tuple[int, int], *, seed: int = 0, kind: int = 0, tissue: bool = True, shade: float = 0.0
) -> np.ndarray:
    """Return uint8 (height, width, 3): a textured ellipse over half of a white, slightly noisy ground.

    The ellipse has its centre in the middle and touches no edge. `kind` sets colour and grain of the texture, `shade`
    moves all of its colours by that many grey levels, as another stain would.
    """
    width, height = size
    rng = np.random.default_rng([seed, kind])
    noise = np.frombuffer(rng.bytes(width * height), np.uint8).reshape(height, width)
    rgb = np.repeat((240 + (noise & 7))[..., None], 3, axis=2)
    if not tissue:
        return rgb
    grain = 4 * (1 + kind % 4)
    coarse = rng.integers(-45, 46, (-(-height // grain), -(-width // grain)), dtype=np.int16)
    texture = coarse.repeat(grain, axis=0)[:height].repeat(grain, axis=1)[:, :width] + (noise >> 4)
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    inside = x**2 + y**2 < 0.8**2
    for channel, level in enumerate(COLOURS[kind % len(COLOURS)] + np.float32(shade)):
        rgb[..., channel][inside] = np.clip(texture[inside] + np.int16(level), 0, 225)
    return rgb


def write_slide(
    path: str | Path,
    *,
    size: tuple[int, int] = (2048, 1536),
    mpp: float | None = 0.5,
    power: float | None = 20,
    levels: bool = True,
    seed: int = 0,
    tissue: bool = True,
    kind: int = 0,
    shade: float = 0.0,
    tile: int = 256,
    quality: int = 80,
    vendor: str = "aperio",
) -> Path:
    """Write a tiled JPEG TIFF that OpenSlide opens, and return its path.

    Parameters
    ----------
    path : str or Path
        The file; its folder is made.
    size : tuple of 2 ints
        Width and height at level 0.
    mpp : float or None
        µm per pixel at level 0. None: neither the description nor the TIFF's resolution tells it.
        0 or less: an Aperio description says so, as broken files do.
    power : float or None
        Objective power in the Aperio description, if any.
    levels : bool
        A pyramid with a factor of 2 between levels, or level 0 alone.
    seed, tissue, kind, shade
        What is on it: :func:`tissue_pixels`.
    tile, quality : int
        Side of a tile (a multiple of 16) and JPEG quality.
    vendor : str
        ``aperio``, or ``generic-tiff``: without a description, so its mpp stands in the TIFF's resolution alone.
    """
    import pyvips

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    image = pyvips.Image.new_from_array(tissue_pixels(size, seed=seed, kind=kind, tissue=tissue, shade=shade))
    image = image.copy(interpretation="srgb")
    if vendor == "aperio":
        fields = [f"Aperio Image Library (test)\n{width}x{height} ({tile}x{tile}) JPEG/RGB Q={quality}"]
        fields += [] if power is None else [f"AppMag = {power:g}"]
        fields += [] if mpp is None else [f"MPP = {mpp:g}"]
        image.set_type(pyvips.GValue.gstr_type, "image-description", "|".join(fields))
    elif vendor != "generic-tiff":
        raise ValueError(f"vendor must be aperio or generic-tiff, found {vendor!r}")
    in_resolution = mpp is not None and mpp > 0
    per_mm = 1000 / mpp if in_resolution else 1
    image.tiffsave(
        str(path),
        tile=True,
        tile_width=tile,
        tile_height=tile,
        pyramid=levels,
        compression="jpeg",
        Q=quality,
        resunit="cm",
        xres=per_mm,
        yres=per_mm,
    )
    if not in_resolution:
        _forget_resolution(path)
    return path


def write_generic_slide(path: str | Path, **options: Any) -> Path:
    """Write a slide as :func:`write_slide` does, without an Aperio description."""
    return write_slide(path, vendor="generic-tiff", **{"power": None, **options})


def _forget_resolution(path: Path) -> None:
    """Set every level's resolution unit to "none": libvips always writes one."""
    import tifffile

    with tifffile.TiffFile(path, mode="r+") as file:
        for page in file.pages:
            page.tags["ResolutionUnit"].overwrite(1)


def truncate(path: str | Path, share: float = 0.5) -> Path:
    """Cut a file off after `share` of its bytes. A slide's directory is then gone: nothing opens it."""
    path = Path(path)
    os.truncate(path, int(path.stat().st_size * share))
    return path


def zero_bytes(path: str | Path) -> Path:
    """Make an empty file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def not_an_image(path: str | Path) -> Path:
    """Make a file of text, whatever its suffix says."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("This is a letter to the laboratory.\n" * 200, "utf-8")
    return path


def corrupt_later_tiles(
    path: str | Path, *, column: int | None = None, row: int | None = None
) -> tuple[int, int, int, int]:
    """Destroy the JPEG data of one level-0 tile of a slide.

    The slide still opens, its other tiles and its other levels read as before. OpenSlide and libvips
    raise an error when they read the destroyed tile.

    Parameters
    ----------
    path : str or Path
        A slide of :func:`write_slide`.
    column, row : int or None
        Which TIFF tile; default: the one in the middle, which is in the tissue.

    Returns
    -------
    tuple of 4 ints
        Level-0 x and y of the destroyed tile's top left corner, its width and its height.
    """
    import tifffile

    path = Path(path)
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        across, down = -(-page.imagewidth // page.tilewidth), -(-page.imagelength // page.tilelength)
        column = across // 2 if column is None else column
        row = down // 2 if row is None else row
        index = row * across + column
        offset, count = page.dataoffsets[index], page.databytecounts[index]
        place = (column * page.tilewidth, row * page.tilelength, page.tilewidth, page.tilelength)
    with open(path, "r+b") as file:
        file.seek(offset)
        # Garbage behind an intact JPEG header is decoded to garbage with a mere warning: the header has to go.
        file.write(b"\0" * count)
    return place


def write_sheet(sheet: str | Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows as a tab-separated sample sheet; its columns are the keys in the order of their first use."""
    sheet = Path(sheet)
    sheet.parent.mkdir(parents=True, exist_ok=True)
    rows = list(rows)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with open(sheet, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, delimiter="\t", lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(rows)
    return sheet


def write_slides(
    folder: str | Path,
    sheet: str | Path,
    *,
    classes: tuple[str, ...] = ("alpha", "beta"),
    patients_per_class: int = 4,
    seed: int = 0,
    **options: Any,
) -> list[dict[str, str]]:
    """Write one slide a patient and their sheet of kind `slides`; return the sheet's rows.

    Classes differ in colour and grain, patients in shade. `options` go to :func:`write_slide`.
    """
    folder, sheet = Path(folder), Path(sheet)
    rows = []
    for number in range(patients_per_class * len(classes)):
        kind = number % len(classes)
        path = folder / f"s{number:02d}.tif"
        shade = float(np.random.default_rng([seed, number]).uniform(-20, 20))
        write_slide(path, **{"seed": seed + number, "kind": kind, "shade": shade, "size": (1024, 1024), **options})
        rows.append(
            {
                "image": path.stem,
                "path": os.path.relpath(path, sheet.parent),
                "patient": f"p{number:02d}",
                "label": classes[kind],
            }
        )
    write_sheet(sheet, rows)
    return rows


def write_patches(
    folder: str | Path,
    sheet: str | Path,
    *,
    classes: tuple[str, ...] = ("alpha", "beta"),
    patients: int = 6,
    images: int = 2,
    tiles: int = 4,
    px: int = 32,
    mixed: bool = True,
    seed: int = 0,
) -> list[dict[str, str]]:
    """Write PNG patches and their sheet of kind `patches` (columns tile, path, image, patient, label); return its rows.

    Parameters
    ----------
    folder, sheet : str or Path
        Paths in the sheet are relative to the sheet's own folder.
    patients, images, tiles : int
        Patients, images of a patient, tiles of an image.
    px : int
        Side of a patch.
    mixed : bool
        True: the tiles of an image take the classes in turn. False: all tiles of a patient are of one class.
    """
    folder, sheet = Path(folder), Path(sheet)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for patient in range(patients):
        shade = float(np.random.default_rng([seed, patient]).uniform(-20, 20))
        for image in range(images):
            for tile in range(tiles):
                kind = (tile if mixed else patient) % len(classes)
                name = f"p{patient:02d}-i{image}-t{tile:02d}"
                number = (seed * 100 + patient) * 10_000 + image * 100 + tile
                Image.fromarray(_full_of_tissue(px, seed=number, kind=kind, shade=shade)).save(folder / f"{name}.png")
                rows.append(
                    {
                        "tile": name,
                        "path": os.path.relpath(folder / f"{name}.png", sheet.parent),
                        "image": f"p{patient:02d}-i{image}",
                        "patient": f"p{patient:02d}",
                        "label": classes[kind],
                    }
                )
    write_sheet(sheet, rows)
    return rows


def write_points(
    folder: str | Path,
    sheet: str | Path,
    *,
    classes: tuple[str, ...] = ("alpha", "beta"),
    patients: int = 6,
    images: int = 1,
    points: int = 8,
    size: tuple[int, int] = (256, 192),
    radius: int = 8,
    mixed: bool = True,
    seed: int = 0,
) -> list[dict[str, str]]:
    """Write PNG images with discs on them and their sheet of kind `points`; return its rows.

    Columns: image, path, x, y (the disc's centre, pixels from the top left corner), patient, label. Discs lie on a
    lattice and do not overlap, and each keeps at least its diameter from the edge. `mixed` as in :func:`write_patches`.

    Raises
    ------
    ValueError
        If `points` discs have no room on an image of this size.
    """
    folder, sheet = Path(folder), Path(sheet)
    folder.mkdir(parents=True, exist_ok=True)
    width, height = size
    step = 4 * radius
    places = [(x, y) for y in range(step // 2, height - step // 2 + 1, step)
              for x in range(step // 2, width - step // 2 + 1, step)]  # fmt: skip
    if points > len(places):
        raise ValueError(f"an image of {width} x {height} px has room for {len(places)} points, found {points}")
    rows = []
    for patient in range(patients):
        shade = float(np.random.default_rng([seed, patient]).uniform(-20, 20))
        for image in range(images):
            name = f"p{patient:02d}-i{image}"
            number = seed * 10_000 + patient * 100 + image
            rng = np.random.default_rng(number)
            rgb = tissue_pixels(size, seed=number, tissue=False)
            for point, chosen in enumerate(rng.permutation(len(places))[:points]):
                kind = (point if mixed else patient) % len(classes)
                x, y = places[chosen]
                disc = _full_of_tissue(2 * radius + 1, seed=number * 100 + point, kind=kind, shade=shade)
                dy, dx = np.ogrid[-radius : radius + 1, -radius : radius + 1]
                inside = dx**2 + dy**2 <= radius**2
                rgb[y - radius : y + radius + 1, x - radius : x + radius + 1][inside] = disc[inside]
                rows.append(
                    {
                        "image": name,
                        "path": os.path.relpath(folder / f"{name}.png", sheet.parent),
                        "x": str(x),
                        "y": str(y),
                        "patient": f"p{patient:02d}",
                        "label": classes[kind],
                    }
                )
            Image.fromarray(rgb).save(folder / f"{name}.png")
    write_sheet(sheet, rows)
    return rows


def _full_of_tissue(px: int, *, seed: int, kind: int, shade: float) -> np.ndarray:
    """Return uint8 (px, px, 3) cut from the middle of a drawn ellipse, where there is no background."""
    rgb = tissue_pixels((2 * px, 2 * px), seed=seed, kind=kind, shade=shade)
    return rgb[px // 2 : px // 2 + px, px // 2 : px // 2 + px]
