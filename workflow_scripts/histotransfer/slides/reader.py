"""Reading whole-slide images: one reader over OpenSlide's formats, with libjpeg-turbo where it is exact and faster.

Coordinate planes: ``l0_`` is pixels of level 0, ``level_`` pixels of one level, lengths in micrometres end in
``_um``; mpp is micrometres per pixel of level 0 unless a level is named. Points are (x, y), sizes (width, height),
arrays (height, width, 3) uint8 RGB.

OpenSlide opens every slide. Pixels of JPEG-tiled TIFF pyramids come through libjpeg-turbo, which gives the same bits
about six times faster (:mod:`histotransfer.slides.jpeg_tiles`); everything else comes through OpenSlide. Threads may
share a reader.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from histotransfer import store
from histotransfer.slides import jpeg_tiles

# ASSUME: a level within 1 % of the asked resolution is that resolution: scanners state 0.499 for 0.5 um a pixel, and
# resampling by 0.2 % would blur every tile for nothing.
RESOLUTION_TOLERANCE = 0.01

# ASSUME: two statements of the resolution that differ by more than 10 % are a contradiction, since nominal powers are
# rounded (0.23 to 0.25 um a pixel are all sold as 40x).
CONFLICT_TOLERANCE = 0.10

# ASSUME: no bright-field slide scanner has pixels below 0.05 um or above 10 um; TIFF files without a resolution say
# 72 dots an inch, that is 353 um.
PLAUSIBLE_MPP = (0.05, 10.0)

# Source pixels that an overview reads at a time, so that a slide without a pyramid does not fill the memory.
OVERVIEW_STRIP = 16_000_000

#: Vendors (OpenSlide's names) whose JPEG levels are decoded to the same bits; a test compares them.
JPEG_VENDORS = frozenset({"aperio", "generic-tiff"})


class UnreadableSlideError(Exception):
    """The reader refused a slide's file: only this error becomes a slide's status."""


@contextmanager
def reader_errors() -> Iterator[None]:
    """Turn the errors that OpenSlide raises about a file into :class:`UnreadableSlideError`."""
    import openslide

    try:
        yield
    except openslide.OpenSlideError as error:
        raise UnreadableSlideError(" ".join(str(error).split()) or type(error).__name__) from error


@dataclass(frozen=True)
class Level:
    """One resolution of a slide.

    Attributes
    ----------
    width, height : int
        In this level's own pixels.
    downsample : float
        Level-0 pixels per pixel of this level.
    tiff_page : int or None
        The TIFF directory whose JPEG tiles are this level; None where OpenSlide reads it.
    """

    width: int
    height: int
    downsample: float
    tiff_page: int | None


class Slide:
    """An open slide.

    Parameters
    ----------
    path : path
        The slide's file.

    Raises
    ------
    UnreadableSlideError
        If OpenSlide cannot open the file, or finds no level in it.

    Examples
    --------
    >>> with Slide("CMU-1-Small-Region.svs") as slide:  # doctest: +SKIP
    ...     tile = slide.read(level=0, level_x=0, level_y=0, width=256, height=256)
    >>> tile.shape  # doctest: +SKIP
    (256, 256, 3)
    """

    def __init__(self, path: str | Path) -> None:
        import openslide

        self.path = Path(path)
        self._file: BinaryIO | None = None
        if not self.path.stat().st_size:
            raise UnreadableSlideError("the file is empty (0 bytes)")
        with reader_errors():
            self._openslide = openslide.OpenSlide(str(self.path))
        self.properties: dict[str, str] = dict(self._openslide.properties)
        self.vendor: str = self.properties.get("openslide.vendor", "")
        self.levels: tuple[Level, ...] = self._find_levels()
        background = self.properties.get("openslide.background-color", "FFFFFF")
        self._background = np.array([int(background[i : i + 2], 16) for i in (0, 2, 4)], np.uint8)

    def __enter__(self) -> Slide:
        return self

    def __exit__(self, *exception: object) -> None:
        self._openslide.close()
        if self._file:
            self._file.close()

    @property
    def l0_size(self) -> tuple[int, int]:
        """Width and height in pixels of level 0."""
        return self.levels[0].width, self.levels[0].height

    @property
    def l0_bounds(self) -> tuple[int, int, int, int]:
        """The scanned part (x, y, width, height) in pixels of level 0; the whole slide where none is stated."""
        names = ("x", "y", "width", "height")
        values = [self.properties.get(f"openslide.bounds-{name}") for name in names]
        return tuple(map(int, values)) if all(values) else (0, 0, *self.l0_size)

    def _find_levels(self) -> tuple[Level, ...]:
        sizes = self._openslide.level_dimensions
        pages: dict[tuple[int, int], jpeg_tiles.JpegTiles] = {}
        if self.vendor in JPEG_VENDORS:
            self._file = open(self.path, "rb")  # noqa: SIM115 - lives as long as the slide
            pages = jpeg_tiles.jpeg_pages(self._file)
        self._jpeg = {level: pages[size] for level, size in enumerate(sizes) if size in pages}
        return tuple(
            Level(*size, downsample, pages[size].number if size in pages else None)
            for size, downsample in zip(sizes, self._openslide.level_downsamples, strict=True)
        )

    def read(
        self, *, level: int, level_x: int, level_y: int, width: int, height: int, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Read a rectangle of one level.

        Parameters
        ----------
        level : int
            Index into :attr:`levels`.
        level_x, level_y, width, height : int
            In pixels of that level; must lie inside it.
        out : ndarray of shape (height, width, 3), uint8, optional
            C-contiguous; where the pixels are put, else into a new array.

        Returns
        -------
        ndarray of shape (height, width, 3), uint8
            RGB; where the scanner has no pixels, the background colour that the file states, else white.

        Raises
        ------
        UnreadableSlideError
            If the data of a tile cannot be decoded.
        ValueError
            If the rectangle does not lie inside the level.
        """
        self._check_inside(level, level_x, level_y, width, height)
        pixels = None
        if level in self._jpeg:
            pixels = self._jpeg[level].read(level_x, level_y, width, height, out=out)
        if pixels is None:
            plane = self.levels[level]
            l0_place = (round(level_x * plane.downsample), round(level_y * plane.downsample))
            with reader_errors():
                rgba = np.asarray(self._openslide.read_region(l0_place, level, (width, height)))
            pixels = self._over_background(rgba)
            if out is not None:
                out[:] = pixels
        return pixels if out is None else out

    def read_row(
        self, *, level: int, level_x: Sequence[int], level_y: int, size: int, out: np.ndarray | None = None
    ) -> Sequence[np.ndarray]:
        """Read squares that stand in one row of a level, near one another, each as :meth:`read` gives it alone.

        OpenSlide reads them at once where that gives the same pixels. It takes places in pixels of level 0, so on a
        level whose downsample is no whole number it interpolates, at each place by another fraction of a pixel; there,
        each square is read by itself, and does not depend on its neighbours.

        Parameters
        ----------
        level : int
        level_x : sequence of int
            Left edges, ascending, in pixels of that level.
        level_y, size : int
            Upper edge and edge length, in pixels of that level.
        out : ndarray of shape (n, size, size, 3), uint8, optional
            C-contiguous; where the squares are put, else into new arrays.

        Returns
        -------
        sequence of n ndarray of shape (size, size, 3), uint8

        Raises
        ------
        UnreadableSlideError, ValueError
            As :meth:`read`.
        """
        left, width = level_x[0], level_x[-1] + size - level_x[0]
        self._check_inside(level, left, level_y, width, size)
        if level in self._jpeg or not self.levels[level].downsample.is_integer():
            square = {"level": level, "level_y": level_y, "width": size, "height": size}
            places = [None] * len(level_x) if out is None else out
            squares = [self.read(level_x=x, **square, out=place) for x, place in zip(level_x, places, strict=True)]
        else:
            strip = self.read(level=level, level_x=left, level_y=level_y, width=width, height=size)
            squares = [strip[:, x - left : x - left + size] for x in level_x]
            if out is not None:
                np.stack(squares, out=out)
        return squares if out is None else out

    def _check_inside(self, level: int, level_x: int, level_y: int, width: int, height: int) -> None:
        plane = self.levels[level]
        if min(level_x, level_y) < 0 or level_x + width > plane.width or level_y + height > plane.height:
            raise ValueError(
                f"{self.path.name}: level {level} has {plane.width} x {plane.height} pixels; "
                f"asked for {width} x {height} at ({level_x}, {level_y})"
            )

    def _over_background(self, rgba: np.ndarray) -> np.ndarray:
        alpha = rgba[:, :, 3:]
        if alpha.min() == 255:
            return np.ascontiguousarray(rgba[:, :, :3])
        blended = rgba[:, :, :3] * (alpha / 255.0) + self._background * (1 - alpha / 255.0)
        return np.rint(blended).astype(np.uint8)

    def level_for(self, downsample: float, *, finer: float = 1.0, strict: bool = False) -> int:
        """Return the coarsest level that is fine enough.

        Parameters
        ----------
        downsample : float
            Level-0 pixels per pixel of the picture that is wanted.
        finer : float
            How many times finer than asked a level has to be, unless it has the resolution that is asked for.
        strict : bool
            True: always level 0 (strict reproduction of a study that read it).
        """
        if strict:
            return 0

        def is_fine(level: Level) -> bool:
            ratio = downsample / level.downsample
            return ratio >= finer or abs(ratio - 1) <= RESOLUTION_TOLERANCE

        fine = [index for index, level in enumerate(self.levels) if is_fine(level)]
        return max(fine, key=lambda index: self.levels[index].downsample, default=0)

    def overview(self, downsample: float) -> tuple[np.ndarray, float]:
        """Return the whole slide, reduced by area averaging.

        Parameters
        ----------
        downsample : float
            Level-0 pixels per pixel that are wanted.

        Returns
        -------
        picture : ndarray of shape (h, w, 3), uint8
        downsample : float
            Level-0 pixels per pixel of `picture`: at most what was asked for, but for the tolerance of resolutions.
            The last column and row are means of what is left there.
        """
        index = self.level_for(downsample)
        level = self.levels[index]
        factor = max(1, math.floor(downsample / level.downsample * (1 + RESOLUTION_TOLERANCE)))
        picture = np.empty((-(-level.height // factor), -(-level.width // factor), 3), np.uint8)
        rows = max(1, OVERVIEW_STRIP // (level.width * factor))
        for top in range(0, len(picture), rows):
            y, n = top * factor, min(rows * factor, level.height - top * factor)
            strip = self.read(level=index, level_x=0, level_y=y, width=level.width, height=n)
            picture[top : top + rows] = area_averaged(strip, factor)
        return picture, level.downsample * factor


def area_averaged(picture: np.ndarray, factor: int) -> np.ndarray:
    """Return the means of a picture's squares of `factor` pixels; at the right and lower edge, of what is left there.

    Parameters
    ----------
    picture : ndarray of shape (h, w, 3), uint8
    factor : int

    Returns
    -------
    ndarray of shape (ceil(h / factor), ceil(w / factor), 3), uint8
    """
    height, width = picture.shape[:2]
    whole = height // factor * factor
    sums = picture[:whole].reshape(whole // factor, factor, width * 3).sum(axis=1, dtype=np.uint32)
    if whole < height:
        sums = np.concatenate([sums, picture[whole:].reshape(-1, width * 3).sum(axis=0, dtype=np.uint32)[None]])
    columns, rows = np.arange(0, width, factor), np.arange(0, height, factor)
    sums = np.add.reduceat(sums.reshape(-1, width, 3), columns, axis=1)
    n_pixels = np.outer(np.minimum(factor, height - rows), np.minimum(factor, width - columns))
    return np.rint(sums / n_pixels[:, :, None]).astype(np.uint8)


@dataclass(frozen=True)
class Resolution:
    """A slide's resolution and what states it, or the status of a slide whose resolution is not stated.

    Attributes
    ----------
    mpp : float or None
        Micrometres per pixel of level 0.
    source : str
        ``sheet``, ``file``, ``objective power``, or empty.
    status, reason : str
        ``ok``, ``no mpp`` or ``mpp conflict``, and why, with the remedies.
    """

    mpp: float | None
    source: str
    status: str = "ok"
    reason: str = ""


def find_resolution(properties: dict[str, str], sheet_mpp: float | None) -> Resolution:
    """Decide a slide's resolution: from the sheet, else the file, else the nominal objective power.

    Parameters
    ----------
    properties : dict
        OpenSlide's properties.
    sheet_mpp : float or None
        Column ``mpp`` of the sample sheet; decides where it is given.
    """
    if sheet_mpp is not None:
        return Resolution(sheet_mpp, "sheet")
    stated = [properties.get(f"openslide.mpp-{axis}") for axis in "xy"]
    axes = [value for value in map(_number, stated) if value is not None]
    power = _number(properties.get("openslide.objective-power"))
    # ASSUME: 10x is 1 um a pixel and so on, as for a camera pixel of 10 um; only where the file states nothing better
    nominal = 10.0 / power if power and power > 0 else None
    # 0.55 is exactly 10 % from 0.5, whatever binary fractions make of it
    conflict = CONFLICT_TOLERANCE + 1e-9
    remedy = "write the resolution into the sheet's column mpp, or remove the slide"
    if axes:
        mpp = sum(axes) / len(axes)
        low, high = PLAUSIBLE_MPP
        if not all(low <= value <= high for value in axes):
            both = " x ".join(f"{value:g}" for value in axes)
            reason = f"the file states {both} um a pixel, outside the {low:g} to {high:g} of slide scanners; {remedy}"
            return Resolution(None, "", "no mpp", reason)
        if max(axes) - min(axes) > conflict * min(axes):
            reason = f"the file states {axes[0]:g} um a pixel across and {axes[1]:g} down; {remedy}"
            return Resolution(None, "", "mpp conflict", reason)
        if nominal and abs(mpp - nominal) > conflict * nominal:
            reason = (
                f"the file states {mpp:g} um a pixel, and an objective power of {power:g}x, "
                f"that is {nominal:g} um; {remedy}"
            )
            return Resolution(None, "", "mpp conflict", reason)
        return Resolution(mpp, "file")
    if nominal:
        return Resolution(nominal, "objective power")
    return Resolution(None, "", "no mpp", f"the file states neither a resolution nor an objective power; {remedy}")


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else None
    except ValueError:
        return None
    return value if value is not None and math.isfinite(value) else None


def inspect_slide(
    *,
    description: str,
    slide: str,
    image_in_sheet: str,
    path: str,
    sheet_mpp: float | None,
    missing_mpp: str,
    slide_file: str | list[str] = (),
) -> None:
    """Write what is known about one slide, or why it cannot be used.

    Parameters
    ----------
    description : path
        The JSON file to write: ``slide``, ``status``, ``reason``, reader, size, levels, mpp and its source, identity.
    slide, image_in_sheet, path : str
        Its safe id, its id and its path as the sheet has them.
    sheet_mpp : float or None
        Micrometres per pixel of level 0 by the sheet.
    missing_mpp : {'fail', 'exclude'}
        What happens to a slide whose resolution is not stated.
    slide_file : path, or empty list
        The file; empty where it does not exist.

    Raises
    ------
    ValueError
        If the slide has no usable resolution and `missing_mpp` is ``fail``.
    """
    facts: dict[str, Any] = {"slide": slide, "image_in_sheet": image_in_sheet, "path": path}
    if not slide_file:
        store.write_json(description, {**facts, "status": "missing", "reason": f"no file at {path}"})
        return
    try:
        with Slide(slide_file) as opened:
            facts |= _describe(opened)
    except UnreadableSlideError as error:
        store.write_json(description, {**facts, "status": "unreadable", "reason": str(error)})
        return
    resolution = find_resolution(opened.properties, sheet_mpp)
    if resolution.status != "ok" and missing_mpp == "fail":
        raise ValueError(
            f"slide {image_in_sheet} ({path}): {resolution.reason}; or set missing_mpp: exclude in the config "
            "to go on without such slides"
        )
    facts |= {"mpp": resolution.mpp, "mpp_source": resolution.source}
    store.write_json(description, {**facts, "status": resolution.status, "reason": resolution.reason})


def _describe(slide: Slide) -> dict[str, Any]:
    stat = slide.path.stat()
    quickhash = slide.properties.get("openslide.quickhash-1")
    return {
        "vendor": slide.vendor,
        "reader": "libjpeg-turbo" if slide.levels[0].tiff_page is not None else "openslide",
        "size": list(slide.l0_size),
        "levels": [
            {"size": [level.width, level.height], "downsample": level.downsample, "tiff_page": level.tiff_page}
            for level in slide.levels
        ],
        "objective_power": _number(slide.properties.get("openslide.objective-power")),
        "quickhash": quickhash or _ends_sha256(slide.path),
        "bytes": stat.st_size,
        "mtime": stat.st_mtime,
    }


def _ends_sha256(path: Path, n: int = 1 << 20) -> str:
    """Return a digest of a file's first and last megabyte, for formats without OpenSlide's quickhash."""
    with open(path, "rb") as file:
        start = file.read(n)
        file.seek(max(0, path.stat().st_size - n))
        return hashlib.sha256(start + file.read(n)).hexdigest()
