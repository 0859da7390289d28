"""Where tiles come from: files of cached pixels, or slides as they are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from histotransfer import store
from histotransfer.slides.read_ahead import read_ahead

#: Attributes of a pixel file that a feature file does not take over: it has values of its own.
_OWN_ATTRIBUTES = frozenset({"status", "reason", "digest", "px", "slide", "versions"})


class SourceError(Exception):
    """A slide that turned out to be unusable while its tiles were read: it gets a status, and the others go on.

    Parameters
    ----------
    status : str
        One of the status words, such as ``unreadable``.
    reason : str
        What went wrong, in a sentence.
    """

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.reason = reason


class TileSource(Protocol):
    """What features are extracted from: the tiles of one slide, in the order of the tiles' file.

    Attributes
    ----------
    slide : str
        The slide's safe id, which names its feature file.
    status, reason : str
        ``ok``, or why there are no tiles.
    n : int
        Number of tiles.
    px : int
        Edge of a tile.
    digest : str
        Of what made the tiles; with a network's it decides whether existing features are still good.
    attributes : dict
        What the feature file takes over: ``mpp``, ``size_um``, ``tiles_digest`` and the like.
    """

    slide: str
    status: str
    reason: str
    n: int
    px: int
    digest: str
    attributes: Mapping[str, Any]

    def tile_ids(self) -> list[str]:
        """Return the id of each tile."""

    def image_ids(self) -> list[str]:
        """Return the image that each tile was cut from."""

    def coords(self) -> np.ndarray:
        """Return the tiles' upper left corners in pixels of level 0, int64 of shape (n, 2): x, y."""

    def blocks(self, batch: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield ``(start, tiles)``: uint8 of shape (at most `batch`, px, px, 3), the receiver's own, in order.

        Called in a thread of its own.

        Raises
        ------
        SourceError
            If the slide itself is at fault.
        """


class PixelFileSource:
    """The tiles of a ``pixels/{px}/{slide}.h5`` file, as a :class:`TileSource`.

    Ids and coordinates are read when asked for, so that a thousand sources of a shard weigh nothing.

    Parameters
    ----------
    path : path
        The file; its name without the suffix is the slide's id.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.slide = self.path.name.removesuffix(".h5")
        with self._open() as file:
            self.status = str(file.attrs["status"])
            self.reason = str(file.attrs.get("reason", ""))
            self.px = int(file.attrs["px"])
            self.digest = str(file.attrs["digest"])
            self.n = len(file["tiles"]) if self.status == "ok" else 0
            self.attributes = {key: file.attrs[key] for key in file.attrs if key not in _OWN_ATTRIBUTES}

    def _open(self) -> Any:
        import h5py

        return h5py.File(self.path, "r")

    def tile_ids(self) -> list[str]:
        """Return the id of each tile."""
        with self._open() as file:
            return store.read_texts(file, "tile")

    def image_ids(self) -> list[str]:
        """Return the image that each tile was cut from."""
        with self._open() as file:
            return store.read_texts(file, "image")

    def coords(self) -> np.ndarray:
        """Return the tiles' upper left corners in pixels of level 0, int64 of shape (n, 2): x, y."""
        with self._open() as file:
            return file["coords"][:].astype(np.int64)

    def blocks(self, batch: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield ``(start, tiles)``, each block read straight into an array of its own."""
        with self._open() as file:
            tiles = file["tiles"]
            for start in range(0, self.n, batch):
                stop = min(start + batch, self.n)
                block = np.empty((stop - start, *tiles.shape[1:]), np.uint8)
                tiles.read_direct(block, np.s_[start:stop])
                yield start, block


class BlocksAhead:
    """The tiles of several sources, read in a thread of its own a few batches ahead, across sources.

    Parameters
    ----------
    sources : sequence of TileSource
    batch : int
        Tiles of a block, at most.
    """

    def __init__(self, sources: Sequence[TileSource], batch: int) -> None:
        self._blocks = read_ahead(_every_block(sources, batch))

    def __enter__(self) -> BlocksAhead:
        return self

    def __exit__(self, *error: object) -> None:
        self._blocks.close()

    def blocks(self, source: TileSource) -> Iterator[tuple[int, np.ndarray]]:
        """Yield ``(start, tiles)`` of a source; sources are taken in their order, each to its end.

        Raises
        ------
        SourceError
            If the slide itself is at fault; the next source may be taken.
        """
        for slide, start, content in self._blocks:
            if slide != source.slide:
                raise RuntimeError(f"tiles of slide {slide} came where those of {source.slide} were due")
            if isinstance(content, SourceError):
                raise content
            if start is None:
                return
            yield start, content


def _every_block(
    sources: Sequence[TileSource], batch: int
) -> Iterator[tuple[str, int | None, np.ndarray | SourceError | None]]:
    """Yield slide, start and tiles of each block; without a start, the slide's end, or its error."""
    for source in sources:
        try:
            for start, block in source.blocks(batch):
                yield source.slide, start, block
            yield source.slide, None, None
        except SourceError as error:
            yield source.slide, None, error
