"""How much of each tile an area covers: exact, in a time that grows with the outline, not with tiles times outlines.

Lengths are pixels of level 0. Outlines are floats in the plane whose origin is the upper left corner of the pixel 0, 0,
so that the pixel (x, y) is the square from (x, y) to (x + 1, y + 1).
"""

from __future__ import annotations

from typing import Any

import numpy as np

#: Edges of outlines that are looked at together: this bounds the memory.
_AT_ONCE = 200_000


def area_in_tiles(area: Any, l0_x: np.ndarray, l0_y: np.ndarray, l0_size: int) -> np.ndarray:
    """Return the area that a polygon has in each tile.

    Parameters
    ----------
    area : shapely.Geometry
        A valid Polygon, MultiPolygon or GeometryCollection of them that do not overlap, with or without holes.
    l0_x, l0_y : ndarray of shape (n,), int
        Upper left corners of the tiles, which may overlap.
    l0_size : int
        Their edge.

    Returns
    -------
    ndarray of shape (n,), float64
        In square pixels of level 0.

    Notes
    -----
    Green's theorem for the field (min(max(x, left), right) - left, 0), whose divergence is 1 in a column of cells and 0
    outside it: a cell's area is the integral of that field over dy along the outline, within the cell's row. The
    outline is cut at all lines on which tiles begin or end; a piece right of a cell gives its width times dy, a piece
    in it its mean distance from the left edge times dy.
    """
    result = np.zeros(len(l0_x))
    edges = _outline(area)
    if not len(edges) or not len(l0_x):
        return result
    x_lines = np.unique(np.concatenate([l0_x, l0_x + l0_size])).astype(np.float64)
    y_lines = np.unique(np.concatenate([l0_y, l0_y + l0_size])).astype(np.float64)
    n_rows, n_cols = len(y_lines) - 1, len(x_lines) - 1
    # one more column takes what lies right of all tiles
    inside, right_of = np.zeros(n_rows * (n_cols + 1)), np.zeros(n_rows * (n_cols + 1))
    for start in range(0, len(edges), _AT_ONCE):
        piece, row = _cut(edges[start : start + _AT_ONCE], y_lines, axis=1)
        piece, col, row = _cut(piece, np.append(x_lines, np.inf), axis=0, beside=row)
        rise = piece[:, 3] - piece[:, 1]
        from_left = np.maximum((piece[:, 0] + piece[:, 2]) / 2 - x_lines[col], 0.0)
        cell = row * (n_cols + 1) + col
        # nothing is in the last column: it has no right edge
        from_left[col == n_cols] = 0.0
        inside += np.bincount(cell, from_left * rise, len(inside))
        right_of += np.bincount(cell, rise, len(right_of))
    inside, right_of = inside.reshape(n_rows, -1), right_of.reshape(n_rows, -1)
    beyond = np.cumsum(right_of[:, ::-1], axis=1)[:, ::-1][:, 1:]
    cells = inside[:, :-1] + beyond * np.diff(x_lines)
    first_col, first_row = np.searchsorted(x_lines, l0_x), np.searchsorted(y_lines, l0_y)
    n_across = np.searchsorted(x_lines, l0_x + l0_size) - first_col
    n_down = np.searchsorted(y_lines, l0_y + l0_size) - first_row
    # cell by cell: differences of a summed-area table of a whole slide would lose digits that thresholds need
    for down in range(n_down.max()):
        for across in range(n_across.max()):
            there = np.flatnonzero((down < n_down) & (across < n_across))
            result[there] += cells[first_row[there] + down, first_col[there] + across]
    return np.clip(result, 0.0, float(l0_size) ** 2)


def _outline(area: Any) -> np.ndarray:
    """Return the edges (n, 4: x, y, x, y) of all rings, the area on the side where the integral of x dy is positive."""
    import shapely

    rings, polygon = shapely.get_rings(shapely.get_parts(area), return_index=True)
    if not len(rings):
        return np.empty((0, 4))
    # the first ring of a polygon is its outer one
    outer = np.diff(polygon, prepend=-1) != 0
    turned = shapely.is_ccw(rings) != outer
    points, ring = shapely.get_coordinates(rings, return_index=True)
    same = ring[1:] == ring[:-1]
    edges = np.concatenate([points[:-1][same], points[1:][same]], axis=1)
    back = turned[ring[:-1][same]]
    edges[back] = edges[back][:, [2, 3, 0, 1]]
    return edges


def _cut(edges: np.ndarray, lines: np.ndarray, *, axis: int, beside: np.ndarray | None = None) -> Any:
    """Cut edges at the lines where a coordinate has given values, and drop pieces that cover no tile.

    Parameters
    ----------
    edges : ndarray of shape (n, 4), float64
        x, y, x, y.
    lines : ndarray of shape (m,), float64
        Ascending.
    axis : {1, 0}
        1 cuts at values of y and drops pieces outside the lines and those along a line, which have no height; 0 cuts at
        values of x and drops pieces left of the first line.
    beside : ndarray of shape (n,), optional
        Numbers that pieces take from their edge.

    Returns
    -------
    pieces : ndarray of shape (k, 4), float64
    place : ndarray of shape (k,), int
        The line that each piece begins at, in the direction of the axis.
    beside : ndarray of shape (k,)
        If given.
    """
    begin, end = edges[:, axis], edges[:, 2 + axis]
    low, high = np.minimum(begin, end), np.maximum(begin, end)
    of_use = (low < lines[-1]) & (high > lines[0]) & ((low < high) | (axis == 0))
    edges, begin, end, low, high = (part[of_use] for part in (edges, begin, end, low, high))
    first = np.maximum(np.searchsorted(lines, low, "right") - 1, 0)
    last = np.maximum(np.minimum(np.searchsorted(lines, high, "left") - 1, len(lines) - 2), first)
    n_pieces = last - first + 1
    source = np.repeat(np.arange(len(edges)), n_pieces)
    place = np.arange(len(source)) - np.repeat(np.cumsum(n_pieces) - n_pieces, n_pieces) + first[source]
    start, stop = np.maximum(low[source], lines[place]), np.minimum(high[source], lines[place + 1])
    backward = (begin > end)[source]
    start, stop = np.where(backward, stop, start), np.where(backward, start, stop)
    whole, length = edges[source], (end - begin)[source]
    pieces, other = np.empty_like(whole), 1 - axis
    pieces[:, axis], pieces[:, 2 + axis] = start, stop
    across = whole[:, 2 + other] - whole[:, other]
    # ends that are no cuts stay what they are, to the last digit; an edge along a line is one piece, and is not cut
    with np.errstate(divide="ignore", invalid="ignore"):
        for column, value in ((other, start), (2 + other, stop)):
            between = whole[:, other] + across * ((value - begin[source]) / length)
            at_begin, at_end = value == begin[source], value == end[source]
            ends = np.where(at_begin, whole[:, other], whole[:, 2 + other])
            pieces[:, column] = np.where(at_begin | at_end, ends, between)
    still = length == 0
    pieces[still] = whole[still]
    return (pieces, place) if beside is None else (pieces, place, beside[of_use][source])


def shares_of_picture(
    picture: np.ndarray,
    n_values: int,
    *,
    l0_width: int,
    l0_height: int,
    l0_x: np.ndarray,
    l0_y: np.ndarray,
    l0_size: int,
) -> np.ndarray:
    """Return which share of each tile has which value in a picture of the whole slide.

    Parameters
    ----------
    picture : ndarray of shape (h, w), uint8
        Values below `n_values` count; others lie in no share.
    n_values : int
    l0_width, l0_height : int
        The slide's size, which the picture covers.
    l0_x, l0_y : ndarray of shape (n,), int
    l0_size : int

    Returns
    -------
    ndarray of shape (n_values, n), float64

    Notes
    -----
    Pixels at a tile's edge count by the part of them that it covers: a summed-area table (Crow 1984), of one row of
    tiles at a time and read between its entries, which is exact since the table is linear inside a pixel.
    """
    height, width = picture.shape
    x_scale, y_scale = l0_width / width, l0_height / height
    left, right = l0_x / x_scale, np.minimum((l0_x + l0_size) / x_scale, width)
    places = np.arange(width + 1)
    shares = np.zeros((n_values, len(l0_x)))
    for y in np.unique(l0_y):
        row = np.flatnonzero(l0_y == y)
        top, bottom = y / y_scale, min((y + l0_size) / y_scale, height)
        first, last = int(top), int(np.ceil(bottom))
        rows = np.arange(first, last)
        covered = np.minimum(rows + 1, bottom) - np.maximum(rows, top)
        block = picture[first:last]
        for value in np.flatnonzero(np.bincount(block.ravel(), minlength=n_values)[:n_values]):
            table = np.concatenate([[0.0], np.cumsum(covered @ (block == value))])
            shares[value, row] = np.interp(right[row], places, table) - np.interp(left[row], places, table)
    return np.clip(shares * (x_scale * y_scale) / float(l0_size) ** 2, 0.0, 1.0)
