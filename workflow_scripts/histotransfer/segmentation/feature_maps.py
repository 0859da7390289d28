"""Maps of a slide's tiles: the values of each tile at its place on the grid, in the middle of an empty canvas.

Takahama, S. et al. (2019), "Multi-stage pathological image classification using semantic segmentation", section 4.1:
the vectors of a slide's patches are "arranged ... based on the position information where the patch is cut out", in
the centre of a map "of sufficient size filled with zeroes"; a map of labels is made alike.

A tile's place is its id, ``COL_ROW`` of the tiling's grid; where tiles overlap, a cell is one step of the grid. Cells
of a canvas are counted from its upper left corner, columns to the right and rows down.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from histotransfer.predictions import NO_LABEL

#: Legal words: a canvas that each map needs, and what a map holds.
FIT = "fit"
PER = ("slide", "piece")
#: Columns of ``canvases.tsv``: one row a map.
COLUMNS = ("image", "piece", "tiles", "canvas", "cut_off")
#: Cells that touch at a side or a corner are one piece of tissue.
# ASSUME corners connect: tissue that runs aslant over the grid is one piece, not a chain of single cells
_NEIGHBOURS = np.ones((3, 3), int)
_ID = re.compile(r"(\d+)_(\d+)")


@dataclass(frozen=True)
class Piece:
    """One map: the tiles of a slide, or of one connected piece of its tissue, on their canvas.

    Attributes
    ----------
    image : str
    number : int
        Of the piece, from 1: from above to below by their first tile, and from left to right.
    rows : ndarray of int, shape (n,)
        The tiles on the canvas, as places in what :func:`layout` was given, ascending.
    canvas_row, canvas_col : ndarray of int, shape (n,)
        Where each of them lies on the canvas.
    size : int
        Edge of the canvas in cells.
    cut_off : ndarray of int, shape (m,)
        Tiles that do not fit on it, ascending.
    first_row, first_col : int
        The grid's row and column at the canvas' upper left cell; below 0 where the canvas begins before the grid.
    """

    image: str
    number: int
    rows: np.ndarray
    canvas_row: np.ndarray
    canvas_col: np.ndarray
    size: int
    cut_off: np.ndarray
    first_row: int
    first_col: int


def layout(image: Sequence[str], tile: Sequence[str], *, size: int | str, per: str, multiple: int = 1) -> list[Piece]:
    """Lay tiles out on canvases.

    Parameters
    ----------
    image, tile : sequence of str, length n
        Of each tile: its slide, and its id, ``COL_ROW``.
    size : int or str
        Edge of every canvas in cells; or ``fit``: of each the smallest multiple of `multiple` that holds it.
    per : str
        ``slide``: one map a slide; ``piece``: one a connected piece of tissue, corners connecting.
    multiple : int
        What edges must be a multiple of: a network of that many cells to its coarsest one.

    Returns
    -------
    list of Piece
        By image, in the order of their names, and by number. Tissue lies in the middle of its canvas; of an odd margin
        the smaller part is above and to the left. What is larger than the canvas loses both its ends alike.

    Raises
    ------
    ValueError
        If `size` or `per` is not legal, a tile's id is not ``COL_ROW``, or two tiles have one place.

    Examples
    --------
    >>> [piece] = layout(["a", "a"], ["5_3", "7_3"], size=8, per="slide", multiple=4)
    >>> piece.canvas_col.tolist(), piece.canvas_row.tolist(), (piece.first_col, piece.first_row)
    ([2, 4], [3, 3], (3, 0))
    """
    check_canvas(size, per, multiple)
    if not len(tile):
        return []
    col, row = _places(image, tile)
    names, of_tile = np.unique(np.asarray(image, dtype=object), return_inverse=True)
    order = np.argsort(of_tile, kind="stable")
    ends = np.searchsorted(of_tile[order], np.arange(1, len(names)))
    pieces = []
    for name, of_image in zip(names.tolist(), np.split(order, ends), strict=True):
        parts = [of_image] if per == "slide" else _connected(of_image, col[of_image], row[of_image])
        pieces += [
            _piece(name, number, part, col[part], row[part], size, multiple) for number, part in enumerate(parts, 1)
        ]
    return pieces


def check_canvas(size: int | str, per: str, multiple: int) -> None:
    """Raise if a canvas is not legal.

    Raises
    ------
    ValueError
        Naming the key of the dataset's ``canvas``.
    """
    if per not in PER:
        raise ValueError(f"canvas.per must be one of {', '.join(PER)}; found {per!r}")
    whole = isinstance(size, int) and not isinstance(size, bool)
    if size != FIT and not (whole and size > 0 and size % multiple == 0):
        raise ValueError(
            f"canvas.size must be {FIT}, or a number of cells above 0 that is a multiple of {multiple}, which the "
            f"depth of the network asks for; found {size!r}"
        )


def place(values: np.ndarray, piece: Piece) -> np.ndarray:
    """Return the map of the values of a piece's tiles.

    Parameters
    ----------
    values : ndarray, shape (n, d)
        Of ``piece.rows``, in their order.
    piece : Piece

    Returns
    -------
    ndarray of float32, shape (size, size, d)
        0 where there is no tile.
    """
    canvas = np.zeros((piece.size, piece.size, values.shape[1]), np.float32)
    canvas[piece.canvas_row, piece.canvas_col] = values
    return canvas


def canvas_of(vectors: np.ndarray, piece: Piece) -> np.ndarray:
    """Return what a U-Net on features takes of a map: the vectors of its tiles, and a plane of where tiles are.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, d)
        Of ``piece.rows``, in their order.
    piece : Piece

    Returns
    -------
    ndarray of float32, shape (size, size, d + 1)
        0 where there is no tile; the last plane is 1 where there is one.
    """
    return place(np.concatenate([vectors, np.ones((len(vectors), 1), np.float32)], axis=1), piece)


def label_map(labels: np.ndarray, piece: Piece) -> np.ndarray:
    """Return the map of the labels of a piece's tiles.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
        Of ``piece.rows``, in their order; below 0 without a label.
    piece : Piece

    Returns
    -------
    ndarray of int32, shape (size, size)
        -1 without a label, or without a tile.
    """
    canvas = np.full((piece.size, piece.size), NO_LABEL, np.int32)
    canvas[piece.canvas_row, piece.canvas_col] = np.maximum(labels, NO_LABEL)
    return canvas


def gather(maps: np.ndarray, piece: Piece) -> np.ndarray:
    """Return the values of a map at the places of a piece's tiles: (n, d) of (size, size, d)."""
    return maps[piece.canvas_row, piece.canvas_col]


def canvas_rows(pieces: Sequence[Piece]) -> list[dict[str, object]]:
    """Return the rows of ``canvases.tsv``: of each map its tiles, its canvas, and how many tiles that cuts off."""
    return [
        {
            "image": piece.image,
            "piece": piece.number,
            "tiles": len(piece.rows) + len(piece.cut_off),
            "canvas": piece.size,
            "cut_off": len(piece.cut_off),
        }
        for piece in pieces
    ]


def _places(image: Sequence[str], tile: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the column and row of each tile."""
    places = np.empty((len(tile), 2), np.int64)
    ids: dict[tuple[str, int, int], str] = {}
    for k, (name, text) in enumerate(zip(image, tile, strict=True)):
        match = _ID.fullmatch(text)
        if match is None:
            raise ValueError(
                f"a map needs tiles whose ids are COL_ROW of a grid; found tile {text!r} of image {name!r}"
            )
        places[k] = int(match[1]), int(match[2])
        other = ids.setdefault((name, *places[k].tolist()), text)
        if other is not text:
            raise ValueError(f"a cell of a map holds one tile; found {other!r} and {text!r} of image {name!r} in one")
    return places[:, 0], places[:, 1]


def _connected(tiles: np.ndarray, col: np.ndarray, row: np.ndarray) -> list[np.ndarray]:
    """Return the tiles of each connected piece."""
    from scipy import ndimage

    row, col = row - row.min(), col - col.min()
    grid = np.zeros((row.max() + 1, col.max() + 1), bool)
    grid[row, col] = True
    labels, n = ndimage.label(grid, structure=_NEIGHBOURS)
    of_tile = labels[row, col]
    parts = [tiles[of_tile == number] for number in range(1, n + 1)]
    first = [min(zip(row[of_tile == number], col[of_tile == number], strict=True)) for number in range(1, n + 1)]
    return [parts[k] for k in sorted(range(n), key=first.__getitem__)]


def _piece(
    image: str, number: int, rows: np.ndarray, col: np.ndarray, row: np.ndarray, size: int | str, multiple: int
) -> Piece:
    extent = max(int(np.ptp(col)), int(np.ptp(row))) + 1
    edge = -(-extent // multiple) * multiple if size == FIT else int(size)
    first_col, first_row = (int(place.min()) - (edge - int(np.ptp(place)) - 1) // 2 for place in (col, row))
    canvas_col, canvas_row = col - first_col, row - first_row
    on = (canvas_col >= 0) & (canvas_col < edge) & (canvas_row >= 0) & (canvas_row < edge)
    return Piece(
        image=image,
        number=number,
        rows=rows[on],
        canvas_row=canvas_row[on],
        canvas_col=canvas_col[on],
        size=edge,
        cut_off=rows[~on],
        first_row=first_row,
        first_col=first_col,
    )
