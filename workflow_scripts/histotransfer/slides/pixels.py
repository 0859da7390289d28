"""Cutting tiles: from a slide and its grid to uint8 pixels at a network's size, as a file or as a stream.

Both ways go through :class:`SlideTiles`, so cached and streamed pixels are the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from histotransfer import store
from histotransfer.definitions import Tiling
from histotransfer.slides import reader
from histotransfer.slides.grid import read_kept

# Neighbouring tiles of a grid row are read together, in at most this many pixels: a slide's own tiles that two of them
# share are decoded once, and 12 MB stay in the processor's cache.
LARGEST_READ = 4_000_000

# Tiles written at a time: a few megabytes.
BLOCK = 32

# ASSUME: a level that is finer than asked, but by less than this, is passed over for a finer one. Reduced by so little
# it keeps the noise of its own JPEG compression, and is blurred by two filters of almost one width: 1000 px to 224
# differ from level 0 by 4.6 grey levels when cut from a level of a quarter (1.1 times finer), by 2.3 from a half.
FINER = 1.4

#: How pixels are reduced; written into every file.
KERNEL = "bilinear with antialiasing (Pillow, reducing_gap 2)"


def resized(picture: np.ndarray, px: int) -> np.ndarray:
    """Return a square picture at `px` pixels across, antialiased; the same array where it has that size already.

    Parameters
    ----------
    picture : ndarray of shape (m, m, 3), uint8
    px : int

    Returns
    -------
    ndarray of shape (px, px, 3), uint8
    """
    if picture.shape[0] == px:
        return picture
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.resize((px, px), Image.Resampling.BILINEAR, reducing_gap=2.0))


def in_grey(picture: np.ndarray) -> np.ndarray:
    """Return three equal channels of a picture's luma (ITU-R BT.601); shape (m, m, 3), uint8."""
    from PIL import Image

    grey = np.asarray(Image.fromarray(np.ascontiguousarray(picture)).convert("L"))
    return np.repeat(grey[:, :, None], 3, axis=2)


class SlideTiles:
    """The tiles of one slide, read when asked for.

    Parameters
    ----------
    slide_file : path, or empty list
        The slide's file; not needed for a slide that is already unusable.
    grid : path
        What :func:`histotransfer.slides.grid.write_grid` wrote.
    px : int
        Pixels across of every tile that is given.
    tiling : Tiling
        Of which ``level`` (``auto`` or 0) and ``grayscale`` are used.
    threads : int
        Threads that read at a time.

    Attributes
    ----------
    slide, status, reason : str
    n, px : int
        Number of tiles, and their edge in pixels.
    digest : str
        Of everything that decides the pixels; known before any is read.
    attributes : dict
        What a file of these pixels says about them.
    """

    def __init__(self, *, slide_file: str | list[str], grid: str, px: int, tiling: Tiling, threads: int = 1):
        kept = read_kept(grid)
        known = kept.attributes
        self.slide, self.status, self.reason = known["slide"], known["status"], known["reason"]
        self.n = len(kept.tile) if self.status == "ok" else 0
        self._tile, self._coords = kept.tile[: self.n], kept.coords[: self.n]
        self.px = px
        self._file, self._tiling, self._threads = slide_file, tiling, threads
        self._l0_size = known.get("l0_size", 0)
        recipe = [known.get("tiles_digest", ""), px, tiling.level, tiling.grayscale, KERNEL, self.status]
        self.digest = hashlib.sha256("\n".join(map(str, recipe)).encode()).hexdigest()
        self.attributes = {
            "px": px,
            "mpp": known["size_um"] / px if self.n else None,
            "size_um": known.get("size_um"),
            "upsampled": 0 < self._l0_size < px,
            "grayscale": tiling.grayscale,
            "kernel": KERNEL,
            "tiles_digest": known.get("tiles_digest", ""),
            "notice": known.get("notice", ""),
        }

    def tile_ids(self) -> list[str]:
        """Return the id of each tile, ``col_row``."""
        return self._tile

    def image_ids(self) -> list[str]:
        """Return the image that each tile was cut from: the slide."""
        return [self.slide] * self.n

    def coords(self) -> np.ndarray:
        """Return the tiles' upper left corners in pixels of level 0, int64 of shape (n, 2): x, y."""
        return self._coords

    def blocks(self, batch: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the tiles in order, `batch` at a time.

        Yields
        ------
        start : int
            Place of the first tile of the block.
        block : ndarray of shape (<= batch, px, px, 3), uint8
            A new array each time.

        Raises
        ------
        UnreadableSlideError
            If a tile cannot be decoded; the tiles before it have been given.
        """
        if not self.n:
            return
        with reader.Slide(self._file) as slide, ThreadPoolExecutor(self._threads) as pool:
            self.attributes["level"] = self._level(slide)
            for start in range(0, self.n, batch):
                block = np.empty((min(batch, self.n - start), self.px, self.px, 3), np.uint8)
                runs = self._runs(slide, start, len(block))
                if self._threads == 1:
                    for run in runs:
                        self._read_run(slide, run, start, block)
                else:
                    for done in [pool.submit(self._read_run, slide, run, start, block) for run in runs]:
                        done.result()
                yield start, block

    def _level(self, slide: reader.Slide) -> int:
        return slide.level_for(self._l0_size / self.px, finer=FINER, strict=self._tiling.level == 0)

    def _runs(self, slide: reader.Slide, start: int, n: int) -> list[range]:
        """Return stretches of neighbouring tiles of one grid row, short enough for one read."""
        size = self._l0_size / slide.levels[self._level(slide)].downsample
        longest = max(1, int(LARGEST_READ / size**2))
        runs, first = [], start
        for index in range(start + 1, start + n + 1):
            if index == start + n or index - first == longest or not self._are_neighbours(index - 1, index):
                runs.append(range(first, index))
                first = index
        return runs

    def _are_neighbours(self, index: int, following: int) -> bool:
        (x, y), (next_x, next_y) = self._coords[index], self._coords[following]
        return y == next_y and 0 < next_x - x <= self._l0_size

    def _read_run(self, slide: reader.Slide, run: range, start: int, block: np.ndarray) -> None:
        index = self._level(slide)
        level = slide.levels[index]
        size = min(round(self._l0_size / level.downsample), level.width, level.height)
        # a rounded place may stand one pixel beyond the level's edge
        x = np.clip(np.rint(self._coords[run, 0] / level.downsample).astype(int), 0, level.width - size)
        y = int(np.clip(round(self._coords[run[0], 1] / level.downsample), 0, level.height - size))
        places = block[run.start - start : run.stop - start]
        as_they_are = size == self.px and not self._tiling.grayscale
        row = slide.read_row(level=index, level_x=x.tolist(), level_y=y, size=size, out=places if as_they_are else None)
        if not as_they_are:
            for place, square in zip(places, row, strict=True):
                picture = resized(square, self.px)
                place[:] = in_grey(picture) if self._tiling.grayscale else picture


def write_pixels(
    *, slide_file: str | list[str], grid: str, pixels: str, px: int, tiling: Tiling, threads: int, code: str
) -> None:
    """Write the kept tiles of a slide at `px` pixels across.

    Parameters
    ----------
    slide_file : path, or empty list
    grid : path
        What :func:`histotransfer.slides.grid.write_grid` wrote.
    pixels : path
        The HDF5 file to write: ``tiles`` uint8 (n, px, px, 3), raw and contiguous; ``tile``, ``image`` texts (n,);
        ``coords`` int64 (n, 2). A slide that turns out to be unreadable gets none, and ``status`` and ``reason``.
    px, tiling, threads
        See :class:`SlideTiles`.
    code : str
        Digest of the code that cuts; features of tiles that other code has cut are not kept.
    """
    source = SlideTiles(slide_file=slide_file, grid=grid, px=px, tiling=tiling, threads=threads)
    status, reason = source.status, source.reason
    if status == "ok":
        try:
            with store.writing_hdf5(pixels, {}) as file:
                data = file.create_dataset("tiles", (source.n, px, px, 3), np.uint8)
                for start, block in source.blocks(BLOCK):
                    data.write_direct(block, dest_sel=np.s_[start : start + len(block)])
                _describe(file, source, source.n, status, reason, code)
            return
        except reader.UnreadableSlideError as error:
            status, reason = "unreadable", str(error)
    with store.writing_hdf5(pixels, {}) as file:
        file.create_dataset("tiles", (0, px, px, 3), np.uint8)
        _describe(file, source, 0, status, reason, code)


def _describe(file: Any, source: SlideTiles, n: int, status: str, reason: str, code: str) -> None:
    store.write_texts(file, "tile", source.tile_ids()[:n])
    store.write_texts(file, "image", source.image_ids()[:n])
    file.create_dataset("coords", data=source.coords()[:n])
    made_by = f"{source.digest}\n{code}" if status == source.status else f"{status}: {reason}"
    digest = hashlib.sha256(made_by.encode()).hexdigest()
    about = {"slide": source.slide, "status": status, "reason": reason, "digest": digest}
    store.set_attributes(file, {**about, **source.attributes})
