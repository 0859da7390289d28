"""Areas in tiles, against numbers worked out by hand and against the geometry library's own intersections."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from histotransfer.regions import shares as region_shares
from histotransfer.regions.shares import area_in_tiles, shares_of_picture

# four tiles of 10 px: (0, 0), (10, 0), (0, 10), (10, 10)
L0_X, L0_Y = np.array([0, 10, 0, 10]), np.array([0, 0, 10, 10])


@pytest.mark.parametrize(
    ("area", "expected"),
    [
        (shapely.box(0, 0, 20, 20), [100, 100, 100, 100]),
        (shapely.box(5, 5, 12, 13), [25, 10, 15, 6]),
        # on the lines between tiles
        (shapely.box(10, 0, 20, 10), [0, 100, 0, 0]),
        # beyond all tiles on each side, and around them
        (shapely.box(-5, -7, 4, 3), [12, 0, 0, 0]),
        (shapely.box(-50, 5, 50, 15), [50, 50, 50, 50]),
        (shapely.box(30, 30, 40, 40), [0, 0, 0, 0]),
        # a triangle, its long side from corner to corner: half of two tiles, all of one
        (shapely.Polygon([(0, 0), (20, 0), (0, 20)]), [100, 50, 50, 0]),
        # the same, drawn the other way round
        (shapely.Polygon([(0, 20), (20, 0), (0, 0)]), [100, 50, 50, 0]),
        # a hole, and an island in it
        (shapely.Polygon(shapely.box(0, 0, 20, 20).exterior, [shapely.box(5, 5, 15, 15).exterior]), [75, 75, 75, 75]),
        (shapely.MultiPolygon([shapely.box(1, 1, 2, 3), shapely.box(18, 0, 20, 11)]), [2, 20, 0, 2]),
        (shapely.GeometryCollection(), [0, 0, 0, 0]),
    ],
)
def test_areas_worked_out_by_hand(area, expected):
    assert area_in_tiles(area, L0_X, L0_Y, 10).tolist() == expected


def test_tiles_that_overlap_and_tiles_with_gaps_between_them():
    area = shapely.Polygon([(0, 0), (30, 0), (0, 30)])
    # the triangle x + y < 30 from (5, 5): 20 wide at the top, cut off at x = 15 and y = 15
    l0_x, l0_y = np.array([0, 5, 5, 18]), np.array([0, 0, 5, 4])
    assert area_in_tiles(area, l0_x, l0_y, 10).tolist() == [100, 100, 100, 32]


def test_no_tiles():
    assert area_in_tiles(shapely.box(0, 0, 1, 1), np.empty(0, int), np.empty(0, int), 10).shape == (0,)


@pytest.mark.parametrize("seed", range(12))
def test_the_same_areas_as_the_geometry_library(seed):
    rng = np.random.default_rng(seed)
    size, step = int(rng.integers(5, 60)), int(rng.integers(4, 80))
    l0_x, l0_y = (plane.ravel() for plane in np.meshgrid(np.arange(7, 400, step), np.arange(11, 300, step)))
    kept = rng.random(len(l0_x)) < 0.7
    l0_x, l0_y = l0_x[kept], l0_y[kept]
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    area = shapely.GeometryCollection()
    for _ in range(4):
        x, y = rng.uniform(-50, 450, (2, 1)) + rng.uniform(20, 120, 40) * [np.cos(angle), np.sin(angle)]
        # every other time on whole pixels, so that points lie on the lines between tiles
        points = np.round([x, y], 0 if seed % 2 else 6).T
        area = area.union(shapely.make_valid(shapely.Polygon(points), method="structure"))
    area = area.difference(area.centroid.buffer(25))
    expected = shapely.area(shapely.intersection(area, shapely.box(l0_x, l0_y, l0_x + size, l0_y + size)))
    assert expected.max() > 0
    found = area_in_tiles(area, l0_x, l0_y, size)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * size**2)


def test_an_outline_of_more_edges_than_are_looked_at_together(monkeypatch):
    area = shapely.Point(10, 10).buffer(8, quad_segs=50)
    whole = area_in_tiles(area, L0_X, L0_Y, 10)
    monkeypatch.setattr(region_shares, "_AT_ONCE", 7)
    np.testing.assert_allclose(area_in_tiles(area, L0_X, L0_Y, 10), whole, rtol=1e-13)
    np.testing.assert_allclose(whole, area.area / 4, rtol=1e-12)


def test_shares_of_a_picture_count_pixels_by_the_part_that_a_tile_covers():
    picture = np.array([[0, 1, 9], [1, 1, 9]], np.uint8)
    # a slide of 30 x 20 px: a pixel of the picture is 10 x 10; tiles of 10 px
    where = {"l0_width": 30, "l0_height": 20, "l0_size": 10}
    shares = shares_of_picture(picture, 2, l0_x=np.array([0, 5, 5, 20, 15]), l0_y=np.array([0, 0, 5, 10, 3]), **where)
    np.testing.assert_allclose(shares, [[1, 0.5, 0.25, 0, 0], [0, 0.5, 0.75, 0, 0.5]], atol=1e-15)


def test_pixels_of_a_picture_need_not_be_square_nor_as_large_as_whole_pixels_of_the_slide():
    # 3 px across 10, 1 px across 4: the value 0 covers x from 3.333 to 6.667
    shares = shares_of_picture(
        np.array([[5, 0, 5]], np.uint8),
        1,
        l0_width=10,
        l0_height=4,
        l0_x=np.array([2, 4]),
        l0_y=np.array([0, 0]),
        l0_size=4,
    )
    np.testing.assert_allclose(shares, [[(6 - 10 / 3) / 4, (20 / 3 - 4) / 4]])
