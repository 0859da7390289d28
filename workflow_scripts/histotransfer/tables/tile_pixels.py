"""Tiles from pixel files, a batch at a time and in any order: what training reads.

A dataset is never in memory. What is kept of each tile is its name and the place of its bytes; the bytes are read with
one call of the system each, past HDF5, since the rules write them raw: nothing is decoded, and two threads do not wait
for one another. One file is open at a time, so that a study may have thousands of slides.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from histotransfer.slides.read_ahead import READY, read_ahead
from histotransfer.tables.slide_files import FileKind, read_contents

_FILES = FileKind("pixel file", content="pixels", use="tiles are read from", having="some")


class _File(NamedTuple):
    """A pixel file: where its bytes are, and its size and time of change, which show whether it was replaced.

    Attributes
    ----------
    path : Path
    size, changed_ns : int
    chunks : ndarray of int64, shape (n_chunks,)
        Place in the file of each chunk's first byte.
    rows : int
        Rows of the dataset in a chunk.
    row_bytes : int
    """

    path: Path
    size: int
    changed_ns: int
    chunks: np.ndarray
    rows: int
    row_bytes: int

    def read(self, descriptor: int, target: np.ndarray, start: int) -> None:
        """Read as many rows of the dataset, from `start` on, as fill `target`."""
        view = memoryview(target).cast("B")
        done = 0
        while done < len(view):
            chunk, row = divmod(start + done // self.row_bytes, self.rows)
            n = min(len(view) - done, (self.rows - row) * self.row_bytes)
            place = int(self.chunks[chunk]) + row * self.row_bytes
            n_read = os.preadv(descriptor, [view[done : done + n]], place)
            if n_read != n:
                raise ValueError(f"{_FILES.damaged(self.path)}: {n_read} bytes from byte {place} on, where {n} are due")
            done += n


@dataclass(frozen=True)
class TilePixels:
    """The tiles of pixel files without their pixels, which :meth:`read` reads.

    Attributes
    ----------
    tile, image : list of str
        Each row's tile and the image it was cut from: files in the order of slide ids, each in that of its tiles.
    px : int
        Edge of what is read, in pixels.
    ragged : bool
        Whether the files hold images at their own size (:mod:`histotransfer.slides.image_files`), of which squares are
        read.
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
    _length: np.ndarray | None
    _upright: np.ndarray | None

    def __len__(self) -> int:
        return len(self.tile)

    @property
    def is_square(self) -> np.ndarray:
        """Whether each tile, or image at its own size, is a square; bool (n,)."""
        return np.ones(len(self), bool) if self._length is None else self._length == self.px

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
                    self._read_tile(descriptor, file, tiles[place], row, None if crops is None else crops[place])
            finally:
                os.close(descriptor)
        return tiles

    def _read_tile(self, descriptor: int, file: _File, tile: np.ndarray, row: int, crop: float | None) -> None:
        start = int(self._start[row])
        if self._length is None:
            file.read(descriptor, tile, start)
            return
        last = int(self._length[row]) - self.px
        start += last // 2 if crop is None else min(int(crop * (last + 1)), last)
        if self._upright[row]:
            file.read(descriptor, tile, start)
            return
        lying = np.empty_like(tile)
        file.read(descriptor, lying, start)
        tile[:] = lying.swapaxes(0, 1)


class _Part(NamedTuple):
    """What is known of one pixel file.

    Attributes
    ----------
    stored : _File
    px : int
    start : ndarray of int64, shape (n,)
        First row of each tile in the file's dataset.
    length : ndarray of int64, shape (n,), or None
    upright : ndarray of bool, shape (n,), or None
        Of images at their own size: rows of each, and whether these are its rows (else its columns).
    """

    stored: _File
    px: int
    start: np.ndarray
    length: np.ndarray | None
    upright: np.ndarray | None

    @property
    def ragged(self) -> bool:
        """Whether the file holds images at their own size."""
        return self.length is not None


def open_tiles(pixels: Sequence[str | Path], *, px: int | None = None) -> TilePixels:
    """Read which tiles pixel files hold, and where.

    Parameters
    ----------
    pixels : list of path
        Files of :func:`histotransfer.slides.pixels.write_pixels` or :func:`histotransfer.slides.patches.write_part`,
        or all of :func:`histotransfer.slides.image_files.write_images`; those whose status is not ``ok`` hold no tiles
        and are passed over.
    px : int, optional
        The edge that the tiles must have, in pixels; by default that of the first file that has tiles.

    Returns
    -------
    TilePixels

    Raises
    ------
    ValueError
        If a file is missing, damaged, compressed, or of another size or kind than the first, a slide has two files, or
        no file has tiles.
    """
    before: list[_Part] = []

    def checked(path: Path, file: Any, tile: list[str], image: list[str]) -> _Part:
        part = _part(path, file, before[0].px if before else px)
        before.append(part)
        if part.ragged != before[0].ragged:
            kinds = ("tiles of one size", "images at their own size")
            raise ValueError(f"pixel file {path}: {kinds[before[0].ragged]} are needed; found {kinds[part.ragged]}")
        if not len(part.start) == len(tile) == len(image):
            raise ValueError(
                f"{_FILES.damaged(path)}: each tile must have a name and an image; found {len(part.start)} tiles, "
                f"{len(tile)} names and {len(image)} images"
            )
        return part

    contents = read_contents(pixels, _FILES, checked)
    parts = contents.parts
    ragged, edge = parts[0].ragged, parts[0].px
    return TilePixels(
        tile=contents.tile,
        image=contents.image,
        px=edge,
        ragged=ragged,
        columns=[],
        n_features=edge**2 * 3,
        attributes={"px": edge, "ragged": ragged, **contents.attributes},
        _files=[part.stored for part in parts],
        _file=np.repeat(np.arange(len(parts), dtype=np.int32), contents.n_tiles),
        _start=np.concatenate([part.start for part in parts]),
        _length=np.concatenate([part.length for part in parts]) if ragged else None,
        _upright=np.concatenate([part.upright for part in parts]) if ragged else None,
    )


def _part(path: Path, file: Any, px: int | None) -> _Part:
    """Return what is known of an open pixel file, of which tiles of `px` pixels are needed."""
    found = int(file.attrs["px"])
    px = found if px is None else px
    if found != px:
        raise ValueError(f"pixel file {path}: tiles of {px} px are needed; found {found} px")
    if "bands" not in file:
        return _Part(_stored(path, file["tiles"], px), px, np.arange(len(file["tiles"])), None, None)
    start, length, upright = (file[name][:] for name in ("start", "length", "upright"))
    _check_bands(path, start, length, upright, px, len(file["bands"]))
    return _Part(_stored(path, file["bands"], px), px, start, length, upright)


def has_tiles(path: str | Path) -> bool:
    """Return whether a pixel file has tiles.

    Raises
    ------
    ValueError
        If the file is missing or damaged.
    """
    with _FILES.opened(Path(path)) as file:
        try:
            return str(file.attrs["status"]) == "ok"
        except KeyError as error:
            raise ValueError(f"{_FILES.damaged(Path(path))}: {error.args[0]}") from error


def stream(
    tiles: TilePixels,
    rows: np.ndarray,
    batch: int,
    *,
    ahead: int = READY,
    crops: np.ndarray | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read tiles batch by batch in a thread of its own, a few batches ahead of the computation that takes them.

    See :func:`histotransfer.slides.read_ahead.read_ahead`.

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

    def read(start: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = slice(start, min(start + batch, len(rows)))
        block = tiles.read(rows[chosen], crops=None if crops is None else crops[chosen])
        return np.arange(chosen.start, chosen.stop), block

    return read_ahead(map(read, range(0, len(rows), batch)), ready=ahead)


def _stored(path: Path, data: Any, px: int) -> _File:
    """Return where the bytes of a file's tiles, or of its bands, are."""
    square = (px, 3) if data.name == "/bands" else (px, px, 3)
    if data.shape[1:] != square or data.dtype != np.uint8:
        legal = f"uint8 of the shape (n, {', '.join(map(str, square))})"
        raise ValueError(f"{_FILES.damaged(path)}: {data.name} must be {legal}; found {data.dtype} of {data.shape}")
    n, row_bytes = len(data), int(np.prod(square))
    if data.chunks is None:
        rows = max(n, 1)
        chunks = np.array([-1 if data.id.get_offset() is None else data.id.get_offset()])[: -(-n // rows)]
    else:
        rows = data.chunks[0]
        if data.chunks[1:] != square or data.id.get_create_plist().get_nfilters():
            raise ValueError(
                f"{_FILES.damaged(path)}: {data.name} must be raw, in one piece or in chunks of whole rows; found "
                f"chunks of {data.chunks}, compression {data.compression}"
            )
        chunks = np.full(-(-n // rows), -1, np.int64)

        def place(chunk: Any) -> None:
            chunks[chunk.chunk_offset[0] // rows] = chunk.byte_offset

        data.id.chunk_iter(place)
    if n and chunks.min() < 0:
        first = int(chunks.argmin()) * rows
        raise ValueError(
            f"{_FILES.damaged(path)}: each row of {data.name} must have been written; found none at {first}"
        )
    stat = path.stat()
    return _File(path, stat.st_size, stat.st_mtime_ns, chunks.astype(np.int64), rows, row_bytes)


def _check_bands(path: Path, start: np.ndarray, length: np.ndarray, upright: np.ndarray, px: int, total: int) -> None:
    if not len(start) == len(length) == len(upright):
        found = f"{len(start)}, {len(length)} and {len(upright)}"
        raise ValueError(f"{_FILES.damaged(path)}: start, length and upright must be equally long; found {found}")
    wrong = np.flatnonzero((start < 0) | (length < px) | (start + length > total))
    if len(wrong):
        raise ValueError(
            f"{_FILES.damaged(path)}: images must be {px} rows or more of {total}; found {length[wrong[0]]} from "
            f"{start[wrong[0]]} on"
        )


def _reopened(file: _File) -> int:
    """Return a descriptor of a file that is still the one whose places are known."""
    try:
        descriptor = os.open(file.path, os.O_RDONLY)
    except FileNotFoundError:
        raise _FILES.missing(file.path) from None
    stat = os.fstat(descriptor)
    if (stat.st_size, stat.st_mtime_ns) != (file.size, file.changed_ns):
        os.close(descriptor)
        raise ValueError(f"pixel file {file.path} must stay as it is while it is read; found that it has changed")
    return descriptor
