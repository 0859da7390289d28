"""A region drawn on a slide, whatever the format of its file: outlines in pixels of level 0, and its names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from histotransfer.problems import Problems, as_number, counted


@dataclass(frozen=True)
class DrawnRegion:
    """One polygon of an annotation file, not yet checked for crossings.

    Attributes
    ----------
    place : str
        Where it stands in its file, for messages.
    names : tuple of str
        Its own name first, then those of the groups that it lies in, from small to large.
    rings : list of ndarray of shape (n, 2), float64
        Its outline, then its holes; x and y in pixels of level 0.
    """

    place: str
    names: tuple[str, ...]
    rings: list[np.ndarray]


@dataclass(frozen=True)
class DrawnRegions:
    """What an annotation file holds.

    Attributes
    ----------
    regions : list of DrawnRegion
        Those without a problem, in the order of the file, one for each polygon.
    left_out : Counter
        What is no region: objects of other kinds and geometries without an area, by what they are.
    """

    regions: list[DrawnRegion]
    left_out: Counter[str]


class AnnotationError(ValueError):
    """An annotation file has problems; the message has all of them, one a line."""

    def __init__(self, path: str, problems: Problems) -> None:
        self.problems = problems
        super().__init__("\n  ".join([f"{path}: {counted(problems.count, 'problem')}", *problems.lines()]))


def read_ring(points: Sequence[Sequence[Any]], place: str, problems: Problems) -> np.ndarray | None:
    """Return the points of one outline, or None and a problem.

    Parameters
    ----------
    points : sequence of (x, y, ...)
        Numbers, or texts that say numbers; more than two of a point are left alone.
    place : str
        Where it stands in its file.
    problems : Problems
        Takes what is wrong: a point that is none of two finite numbers, fewer than three points.

    Returns
    -------
    ndarray of shape (n, 2), float64, or None
        Open or closed, as it was.
    """
    try:
        ring = np.array([(x, y) for x, y, *_ in points], np.float64)
        bad = np.flatnonzero(~np.isfinite(ring).all(axis=1)) if len(ring) else []
    except (TypeError, ValueError):
        bad = [number for number, point in enumerate(points) if not _is_point(point)] or [0]
    if len(bad):
        problems.add(
            f"{place}, point {bad[0] + 1}", "x and y must be finite numbers, pixels of level 0", _shown(points[bad[0]])
        )
        return None
    n = len(ring) - int(len(ring) > 1 and (ring[0] == ring[-1]).all())
    if n < 3:
        problems.add(place, "an outline must have at least 3 points", str(n))
        return None
    return ring


def _is_point(point: Any) -> bool:
    if isinstance(point, (str, bytes)) or not hasattr(point, "__len__") or len(point) < 2:
        return False
    return all(not isinstance(value, bool) and as_number(str(value)) is not None for value in point[:2])


def _shown(point: Any) -> str:
    text = ", ".join(map(str, point)) if isinstance(point, (list, tuple)) else repr(point)
    return text if len(text) <= 60 else text[:57] + "..."
