"""Tiles from pixel files, a batch at a time and in any order: what training reads.

A dataset is never in memory. What is kept of each tile is its name and the place of its bytes; the bytes are read with
one call of the system each, past HDF5, since the rules write them raw: nothing is decoded, and two threads do not wait
for one another. One file is open at a time, so that a study may have thousands of slides.
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from histotransfer import store

#: What to do about pixels that cannot be read.
_AGAIN = "which the same command makes again"
#: Names of the arrays of a file of images at their own size.
_RAGGED = ("bytes", "start", "height", "width")


class _File(NamedTuple):
    """A pixel file, and what tells whether it has been replaced since it was opened."""

    path: Path
    size: int
    changed_ns: int


@dataclass(frozen=True)
class TilePixels:
    """The tiles of pixel files: all but the pixels, which :meth:`read` brings.

    Attributes
    ----------
    tile, image : list of str
        Each row's tile and the image it was cut from: files in the order of slide ids, each in that of its tiles.
    px : int
        Edge of what is read, in pixels.
    ragged : bool
        Whether the files hold images at their own size (:mod:`histotransfer.image_files`), of which squares are read.
    columns : list
        Empty: pixels are no columns of features.
    n_features : int
        Values of a tile: ``px * px * 3``.
    attributes : dict
        ``px``, ``ragged``, ``tiles_digests`` by slide, and ``versions`` of the libraries that made the pixels.
    """

    tile: list[str]
    image: list[str]
    px: int
    ragged: bool
    columns: list[Any]
    n_features: int
    attributes: dict[str, Any]
    _files: list[_File]
    _file: np.ndarray
    _start: np.ndarray
    _shape: np.ndarray | None

    def __len__(self) -> int:
        return len(self.tile)

    def read(
        self,
        rows: np.ndarray | None = None,
        columns: None = None,
        *,
        crops: np.ndarray | None = None,
    ) -> np.ndarray:
        """Read some tiles.

        Parameters
        ----------
        rows : ndarray of int, shape (n,), optional
            In any order, each as often as wanted; all tiles by default.
        columns : None
            Pixels are read whole.
        crops : ndarray of float, shape (n,), values in [0, 1), optional
            Of images at their own size: which of the largest squares is taken along the longer side, from 0, the
            first, uniformly to the last; by default the one in the middle. A square image has one alone.

        Returns
        -------
        ndarray of shape (n, px, px, 3), uint8
            The caller's own, in the order of `rows`.

        Raises
        ------
        IndexError
            If there is no such row.
        ValueError
            If `columns` are asked for, or a file is missing, has been replaced or ends early: it is named.
        """
        if columns is not None:
            raise ValueError(f"pixels are read whole, without columns; found {len(columns)} columns asked for")
        rows = np.arange(len(self.tile)) if rows is None else np.asarray(rows)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self.tile):
            raise IndexError(f"rows of tiles are 0 to {len(self.tile) - 1}; found {rows.min()} to {rows.max()}")
        tiles = np.empty((len(rows), self.px, self.px, 3), np.uint8)
        of_file = self._file[rows]
        # file by file, and forwards in each
        order = np.lexsort((self._start[rows], of_file))
        edges = np.flatnonzero(np.diff(of_file[order], prepend=-1, append=-1))
        for first, last in itertools.pairwise(edges.tolist()):
            file = self._files[of_file[order[first]]]
            descriptor = _reopened(file)
            try:
                for place in order[first:last].tolist():
                    row = int(rows[place])
                    if self._shape is None:
                        _read_exactly(descriptor, file, tiles[place], int(self._start[row]))
                    else:
                        crop = None if crops is None else float(crops[place])
                        self._read_square(descriptor, file, tiles[place], row, crop)
            finally:
                os.close(descriptor)
        return tiles

    def _read_square(self, descriptor: int, file: _File, square: np.ndarray, row: int, crop: float | None) -> None:
        height, width = self._shape[row].tolist()
        longest = max(height, width) - self.px
        place = longest // 2 if crop is None else min(int(crop * (longest + 1)), longest)
        start = int(self._start[row])
        if height >= width:
            # rows of the image that follow one another
            _read_exactly(descriptor, file, square, start + place * width * 3)
            return
        picture = np.empty((height, width, 3), np.uint8)
        _read_exactly(descriptor, file, picture, start)
        square[:] = picture[:, place : place + self.px]


def open_tiles(pixels: Sequence[str | Path], *, px: int | None = None) -> TilePixels:
    """Read which tiles pixel files hold, and where.

    Parameters
    ----------
    pixels : list of path
        Files of :func:`histotransfer.pixels.write_pixels` or :func:`histotransfer.patches.write_part`, or all of
        :func:`histotransfer.image_files.write_images`; those whose status is not ``ok`` hold no tiles and are passed
        over.
    px : int, optional
        The edge that the tiles must have, in pixels; by default that of the first file that has tiles.

    Returns
    -------
    TilePixels

    Raises
    ------
    ValueError
        If a file is missing, damaged, compressed, or of another size or kind than the first, if a slide stands in two
        files, or if no file has tiles.
    """
    files: list[_File] = []
    tile: list[str] = []
    image: list[str] = []
    of_file, starts, shapes = [], [], []
    ragged: bool | None = None
    tiles_digests: dict[str, str] = {}
    versions: dict[str, set[str]] = {}
    file_of: dict[str, Path] = {}
    for path in sorted(map(Path, pixels), key=lambda path: path.name):
        slide = path.name.removesuffix(".h5")
        if slide in file_of:
            raise ValueError(f"a slide's pixels must stand in one file; found {slide} in {file_of[slide]} and {path}")
        file_of[slide] = path
        with _opened(path) as file:
            try:
                if str(file.attrs["status"]) != "ok":
                    continue
                found = int(file.attrs["px"])
                px = found if px is None else px
                if found != px:
                    raise ValueError(f"pixel file {path}: tiles of {px} px are needed; found {found} px")
                own = "tiles" not in file and all(name in file for name in _RAGGED)
                ragged = own if ragged is None else ragged
                if own != ragged:
                    kinds = ("tiles of one size", "images at their own size")
                    raise ValueError(f"pixel file {path}: {kinds[ragged]} are needed; found {kinds[own]}")
                names = [store.read_texts(file, name) for name in ("tile", "image")]
                start, shape = _ragged_places(path, file, px) if own else (_tile_places(path, file["tiles"], px), None)
                known = json.loads(file.attrs.get("versions", "{}"))
            except KeyError as error:
                raise ValueError(f"{_damaged(path)}: {error.args[0]}") from error
            tiles_digests[slide] = str(file.attrs.get("tiles_digest", ""))
        if not len(start) == len(names[0]) == len(names[1]):
            raise ValueError(
                f"{_damaged(path)}: each tile must have a name and an image; found {len(start)} tiles, "
                f"{len(names[0])} names and {len(names[1])} images"
            )
        stat = path.stat()
        of_file.append(np.full(len(start), len(files), np.int32))
        files.append(_File(path, stat.st_size, stat.st_mtime_ns))
        starts.append(start)
        shapes.append(shape)
        tile += names[0]
        image += names[1]
        for library, version in known.items():
            versions.setdefault(library, set()).add(version)
    if not tile:
        given = ", ".join(map(str, pixels)) or "no file"
        raise ValueError(f"tiles are read from pixel files that have some; found none in {given}")
    return TilePixels(
        tile=tile,
        image=image,
        px=int(px),
        ragged=bool(ragged),
        columns=[],
        n_features=int(px) ** 2 * 3,
        attributes={
            "px": int(px),
            "ragged": bool(ragged),
            "tiles_digests": tiles_digests,
            "versions": {library: ", ".join(sorted(found)) for library, found in sorted(versions.items())},
        },
        _files=files,
        _file=np.concatenate(of_file),
        _start=np.concatenate(starts),
        _shape=np.concatenate(shapes) if ragged else None,
    )


def stream(
    tiles: TilePixels,
    rows: np.ndarray,
    batch: int,
    *,
    ahead: int = 2,
    crops: np.ndarray | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read tiles batch by batch in a thread of its own, a few batches ahead of who takes them.

    The thread ends when the iterator is used up, closed, or no longer there.

    Parameters
    ----------
    tiles : TilePixels
    rows : ndarray of int, shape (n,)
        In the order wanted.
    batch : int
        Tiles of a batch; the last one may have fewer.
    ahead : int
        Batches that lie ready.
    crops : ndarray of float, shape (n,), optional
        See :meth:`TilePixels.read`: one for each of `rows`.

    Yields
    ------
    positions : ndarray of int, shape (<= batch,)
        Places in `rows` of the tiles of this batch: 0, 1, ... over all batches.
    block : ndarray of shape (<= batch, px, px, 3), uint8
        A new array each time.

    Raises
    ------
    ValueError
        If `batch` or `ahead` is below 1, or a file cannot be read: when the batch is due that needs it.
    """
    if batch < 1 or ahead < 1:
        raise ValueError(f"batch and ahead: legal are integers of at least 1; found {batch} and {ahead}")
    rows = np.asarray(rows)
    if crops is not None and len(crops) != len(rows):
        raise ValueError(f"crops: each of {len(rows)} rows has one; found {len(crops)}")
    return _stream(tiles, rows, batch, ahead, crops)


def _stream(
    tiles: TilePixels, rows: np.ndarray, batch: int, ahead: int, crops: np.ndarray | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    ready: queue.Queue = queue.Queue(maxsize=ahead)
    stopped = threading.Event()

    def put(item: Any) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def read() -> None:
        try:
            for start in range(0, len(rows), batch):
                chosen = slice(start, min(start + batch, len(rows)))
                block = tiles.read(rows[chosen], crops=None if crops is None else crops[chosen])
                if not put((np.arange(chosen.start, chosen.stop), block)):
                    return
            put(None)
        # whatever it is, it belongs to the one who waits for the tiles
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=read, name="read tiles", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()


def _tile_places(path: Path, data: Any, px: int) -> np.ndarray:
    """Return the place in the file of each tile's first byte, int64 (n,)."""
    shape = tuple(data.shape)
    if len(shape) != 4 or shape[1:] != (px, px, 3) or data.dtype != np.uint8:
        legal = f"uint8 of the shape (n, {px}, {px}, 3)"
        raise ValueError(f"{_damaged(path)}: its tiles must be {legal}; found {data.dtype} of {shape}")
    n = shape[0]
    if data.chunks is None:
        return _offset(path, data) + np.arange(n, dtype=np.int64) * (px * px * 3) if n else np.empty(0, np.int64)
    if data.chunks != (1, px, px, 3) or data.id.get_create_plist().get_nfilters():
        raise ValueError(
            f"{_damaged(path)}: tiles must be stored raw, contiguous or one a chunk; found chunks of {data.chunks}, "
            f"compression {data.compression}"
        )
    starts = np.full(n, -1, np.int64)

    def place(chunk: Any) -> None:
        starts[chunk.chunk_offset[0]] = chunk.byte_offset

    data.id.chunk_iter(place)
    if n and starts.min() < 0:
        raise ValueError(f"{_damaged(path)}: each tile must have been written; found none at {int(starts.argmin())}")
    return starts


def _ragged_places(path: Path, file: Any, px: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the place in the file of each image's first byte, int64 (n,), and heights and widths, int32 (n, 2)."""
    start = file["start"][:].astype(np.int64)
    shape = np.column_stack([file["height"][:], file["width"][:]]).astype(np.int32)
    data = file["bytes"]
    sizes = shape.astype(np.int64).prod(axis=1) * 3
    fits = len(start) == len(shape) and (shape.min(axis=1) == px).all() and (start + sizes <= len(data)).all()
    if not fits or data.dtype != np.uint8 or data.chunks is not None:
        raise ValueError(
            f"{_damaged(path)}: images must be raw bytes with a shorter side of {px} px; found {len(start)} images "
            f"in {len(data)} bytes of {data.dtype}, sides from {shape.min() if len(shape) else 'none'}"
        )
    return (start + _offset(path, data) if len(start) else start), shape


def _offset(path: Path, data: Any) -> int:
    offset = data.id.get_offset()
    if offset is None:
        raise ValueError(f"{_damaged(path)}: {data.name} must have been written; found no bytes of it")
    return int(offset)


def _opened(path: Path) -> Any:
    import h5py

    if not path.is_file():
        raise ValueError(f"tiles are read from pixel files, {_AGAIN}; found no file {path}")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{_damaged(path)}: {error}") from error


def _reopened(file: _File) -> int:
    """Return a descriptor of a file that is still the one whose places are known."""
    try:
        descriptor = os.open(file.path, os.O_RDONLY)
    except FileNotFoundError:
        raise ValueError(f"tiles are read from pixel files, {_AGAIN}; found no file {file.path}") from None
    stat = os.fstat(descriptor)
    if (stat.st_size, stat.st_mtime_ns) != (file.size, file.changed_ns):
        os.close(descriptor)
        raise ValueError(f"pixel file {file.path} must stay as it is while it is read; found that it has changed")
    return descriptor


def _read_exactly(descriptor: int, file: _File, target: np.ndarray, start: int) -> None:
    found = os.preadv(descriptor, [target], start)
    if found != target.nbytes:
        raise ValueError(f"{_damaged(file.path)}: {found} bytes from byte {start} on, where {target.nbytes} are due")


def _damaged(path: Path) -> str:
    """Return the beginning of a sentence about a file that is not what a rule has written."""
    return f"pixel file {path} is damaged: delete the file, {_AGAIN}; found"
