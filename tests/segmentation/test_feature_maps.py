"""Maps of tiles: where a tile lies on its canvas, counted by hand; pieces of tissue; what a canvas cuts off."""

from __future__ import annotations

import numpy as np
import pytest

from histotransfer.segmentation import feature_maps


def ids(rows):
    """Return the ids of the tiles of a picture of a grid, row by row: a tile where a character is not a point."""
    return [f"{c}_{r}" for r, line in enumerate(rows) for c, one in enumerate(line) if one != "."]


def laid_out(rows, *, size, per="slide", multiple=1, image="s"):
    tile = ids(rows)
    return feature_maps.layout([image] * len(tile), tile, size=size, per=per, multiple=multiple), tile


def drawn(piece, tile):
    """Return a piece's canvas as a picture: the column of each tile's id, modulo 10."""
    canvas = [["."] * piece.size for _ in range(piece.size)]
    for k, row, col in zip(piece.rows, piece.canvas_row, piece.canvas_col, strict=True):
        canvas[row][col] = str(int(tile[k].split("_")[0]) % 10)
    return ["".join(line) for line in canvas]


def test_tissue_lies_in_the_middle_and_the_smaller_margin_is_above_and_to_the_left():
    [piece], tile = laid_out(["......", "...xxx", "...x.."], size=6)
    # 3 columns on 6: margins 1 and 2; 2 rows on 6: margins 2 and 2
    assert drawn(piece, tile) == ["......", "......", ".345..", ".3....", "......", "......"]
    assert (piece.image, piece.number, piece.size) == ("s", 1, 6)
    # the grid's cell (3, 1) lies at column 1, row 2 of the canvas
    assert (piece.first_col, piece.first_row) == (2, -1)
    assert piece.cut_off.size == 0


def test_a_canvas_that_is_too_small_cuts_off_both_ends_and_names_the_tiles():
    [piece], tile = laid_out(["xxxxxxx"], size=4)
    # 7 columns on 4: 3 too many, 2 of them to the left
    assert drawn(piece, tile) == ["....", "2345", "....", "...."]
    assert [tile[k] for k in piece.cut_off] == ["0_0", "1_0", "6_0"]
    assert [tile[k] for k in piece.rows] == ["2_0", "3_0", "4_0", "5_0"]
    [row] = feature_maps.canvas_rows([piece])
    assert row == {"image": "s", "piece": 1, "tiles": 7, "canvas": 4, "cut_off": 3}


@pytest.mark.parametrize(("multiple", "expected"), [(1, 5), (2, 6), (4, 8), (8, 8)])
def test_fit_takes_the_smallest_multiple_that_holds_the_longer_side(multiple, expected):
    [piece], _ = laid_out(["xxxxx", "....x"], size="fit", multiple=multiple)
    assert piece.size == expected
    assert len(piece.rows) == 6


def test_pieces_are_connected_by_sides_and_corners_and_counted_from_above():
    rows = [
        "....xx..",
        "x.....x.",
        ".x......",
        "......x.",
        ".xx...x.",
    ]
    pieces, tile = laid_out(rows, size=4, per="piece")
    assert [[tile[k] for k in piece.rows] for piece in pieces] == [
        ["4_0", "5_0", "6_1"],
        ["0_1", "1_2"],
        ["6_3", "6_4"],
        ["1_4", "2_4"],
    ]
    assert [piece.number for piece in pieces] == [1, 2, 3, 4]
    assert drawn(pieces[0], tile) == ["....", "45..", "..6.", "...."]
    [whole], _ = laid_out(rows, size=8)
    assert len(whole.rows) == len(tile)


def test_slides_stand_in_the_order_of_their_names_whatever_that_of_their_tiles():
    image, tile = ["b", "a", "b", "a"], ["0_0", "4_4", "2_0", "5_4"]
    pieces = feature_maps.layout(image, tile, size=4, per="piece")
    assert [(piece.image, piece.number, piece.rows.tolist()) for piece in pieces] == [
        ("a", 1, [1, 3]),
        ("b", 1, [0]),
        ("b", 2, [2]),
    ]
    # two single cells have no neighbour, so each is a piece in the middle of its canvas
    assert [piece.canvas_col.tolist() for piece in pieces] == [[1, 2], [1], [1]]


def test_what_is_placed_is_gathered_and_all_else_is_zero():
    [piece], tile = laid_out([".x.x", "xx.."], size=8)
    values = np.random.default_rng(3).standard_normal((len(tile), 5)).astype(np.float32)
    maps = feature_maps.place(values[piece.rows], piece)
    assert maps.shape == (8, 8, 5)
    assert maps.dtype == np.float32
    assert (maps != 0).any(axis=2).sum() == 4
    np.testing.assert_array_equal(feature_maps.gather(maps, piece), values[piece.rows])
    # tile 1_0 stands in column 1 of 4, row 0 of 2: at column 2 + 1, row 3 + 0
    np.testing.assert_array_equal(maps[3, 3], values[tile.index("1_0")])


def test_labels_are_minus_one_without_a_tile_or_a_label():
    [piece], _ = laid_out(["xxx"], size=3)
    found = feature_maps.label_map(np.array([1, -1, 0]), piece)
    assert found.dtype == np.int32
    assert found.tolist() == [[-1, -1, -1], [1, -1, 0], [-1, -1, -1]]
    # whatever marks a tile without a label
    assert feature_maps.label_map(np.array([1, -7, 0]), piece).tolist() == found.tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 12}, "canvas.size must be fit, or a number .* a multiple of 8, .* found 12"),
        ({"size": 0}, "found 0"),
        ({"size": "fits"}, "found 'fits'"),
        ({"size": True}, "found True"),
        ({"per": "patient"}, "canvas.per must be one of slide, piece; found 'patient'"),
    ],
)
def test_a_canvas_that_is_not_legal_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        feature_maps.layout(["s"], ["0_0"], **{"size": 16, "per": "slide", "multiple": 8, **changes})


@pytest.mark.parametrize(
    ("tile", "message"),
    [
        (["0_0", "17"], "ids are COL_ROW of a grid; found tile '17' of image 's'"),
        (["0_0", "-1_0"], "found tile '-1_0'"),
        (["1_0", "01_0"], "a cell of a map holds one tile; found '1_0' and '01_0' of image 's'"),
    ],
)
def test_ids_that_are_no_places_are_refused(tile, message):
    with pytest.raises(ValueError, match=message):
        feature_maps.layout(["s"] * len(tile), tile, size=8, per="slide")
