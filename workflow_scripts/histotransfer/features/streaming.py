"""Features straight from slides: no tile is stored (``pixels: stream``)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from histotransfer.definitions import Tiling
from histotransfer.features.extraction import ShardJob, extract_from_sources
from histotransfer.features.sources import SourceError
from histotransfer.settings import Extraction
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


@dataclass(frozen=True)
class ShardSlides:
    """The slides of a shard.

    Attributes
    ----------
    slide_files : tuple of path
        The files that exist; a slide without one already has a status in its grid.
    grids : tuple of path
        What :func:`histotransfer.slides.grid.write_grid` wrote, of every slide of the shard.
    paths : tuple of path
        Each slide's path in the order of `grids`.
    """

    slide_files: tuple[str, ...]
    grids: tuple[str, ...]
    paths: tuple[str, ...]


def extract_from_slides(
    *, slides: ShardSlides, tiling: Tiling, job: ShardJob, extraction: Extraction, threads: int
) -> None:
    """Extract the features of one shard from its slides, by the same pixels as cached ones.

    Parameters
    ----------
    slides : ShardSlides
    tiling : Tiling
        See :class:`histotransfer.slides.pixels.SlideTiles`.
    job, extraction, threads
        See :func:`histotransfer.features.extraction.extract`.
    """
    existing = set(slides.slide_files)
    sources = [
        StreamedSlide(
            slide_file=path if path in existing else [],
            grid=grid,
            px=job.network.px,
            tiling=tiling,
            threads=threads,
        )
        for grid, path in zip(slides.grids, slides.paths, strict=True)
    ]
    extract_from_sources(sources=sources, job=job, extraction=extraction, threads=threads)
