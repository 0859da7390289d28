"""Features straight from slides: no tile is stored (``pixels: stream``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from histotransfer.features import extraction
from histotransfer.features.sources import SourceError
from histotransfer.slides import pixels, reader


class StreamedSlide(pixels.SlideTiles):
    """The tiles of a slide as a source of features: a slide that cannot be read on gets a status."""

    def blocks(self, batch: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield ``(start, tiles)`` as :class:`histotransfer.slides.pixels.SlideTiles` does.

        Raises
        ------
        SourceError
            If a tile cannot be decoded.
        """
        try:
            yield from super().blocks(batch)
        except reader.UnreadableSlideError as error:
            raise SourceError("unreadable", str(error)) from error


def extract_from_slides(
    *,
    slide_files: Sequence[str],
    grids: Sequence[str],
    paths: Sequence[str],
    tiling: Mapping[str, Any],
    network: Mapping[str, Any],
    threads: int,
    code: str,
    **plan: Any,
) -> None:
    """Extract the features of one shard from its slides, by the same pixels as cached ones.

    Parameters
    ----------
    slide_files : list of path
        The files that exist; a slide without one already has a status in its grid.
    grids : list of path
        What :func:`histotransfer.slides.grid.write_grid` wrote, of every slide of the shard.
    paths : list of path
        Each slide's path in the order of `grids`.
    tiling : dict
        See :class:`histotransfer.slides.pixels.SlideTiles`.
    network, threads, code, **plan
        See :func:`histotransfer.features.extraction.extract`.
    """
    there = set(slide_files)
    sources = [
        StreamedSlide(
            slide_file=path if path in there else [], grid=grid, px=network["px"], tiling=dict(tiling), threads=threads
        )
        for grid, path in zip(grids, paths, strict=True)
    ]
    extraction.extract_from_sources(sources=sources, network=network, threads=threads, code=code, **plan)
