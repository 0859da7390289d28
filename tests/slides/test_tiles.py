"""The grid of a slide: where its tiles lie, how much tissue they hold, and which are kept."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import h5py
import numpy as np
import pytest
import slide_factory
import yaml
from repository import ROOT

from histotransfer.definitions import Tiling
from histotransfer.slides import grid, reader, tissue
from histotransfer.study import schema

PLAIN = Tiling(size_um=64.0, tissue_min=0.5)


def preset(name):
    """Return a tiling of config.yaml as the workflow completes it."""
    with open(ROOT / "rules/schemas/config.schema.yaml", encoding="utf-8") as file:
        rules = yaml.safe_load(file)
    with open(ROOT / "config.yaml", encoding="utf-8") as file:
        tiling = schema.Defaults(rules).filled(yaml.safe_load(file), rules)["tilings"][name]
    return {**tiling, "tissue_min": tiling["tissue_min"] or 0.0}


# size


@pytest.mark.parametrize(
    ("tiling", "mpp", "um", "l0"),
    [
        ({"size_um": 112}, 0.5, 112, 224),
        ({"size_um": 112}, 0.25, 112, 448),
        # 112 / 0.499 = 224.4
        ({"size_um": 112}, 0.499, 112, 224),
        ({"size_px": 224, "mpp": 0.5}, 0.5, 112, 224),
        ({"size_px": 224, "mpp": 0.5}, 0.25, 112, 448),
        ({"size_px": 1000, "mpp": 0.5}, 0.23, 2174 * 0.23, 2174),
        # within 1 % the slide's pixels are the asked ones
        ({"size_px": 1000, "mpp": 0.5}, 0.499, 499, 1000),
        ({"size_px": 1000, "mpp": 0.5}, 0.504, 504, 1000),
        ({"size_px": 1000, "mpp": 0.5}, 0.506, 988 * 0.506, 988),
    ],
)
def test_a_tiles_size(tiling, mpp, um, l0):
    found = grid.tile_size(Tiling(**tiling), mpp)
    assert found == grid.TileSize(pytest.approx(um), l0)


def test_upsampling_is_refused_with_its_remedies():
    said = (
        "slide S/1: tiles of 64 um reduced to 224 px ask for 0.2857 um a pixel, finer than the slide's 0.5; take "
        "larger tiles (at least 112 um), a smaller px of the network, or set upsample: true in the tiling; tiles here "
        "have 128 px of level 0"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        grid.refuse_upsampling(slide="S/1", size=grid.TileSize(64.0, 128), px=224, mpp=0.5)


@pytest.mark.parametrize(("l0", "fine"), [(224, True), (222, True), (221, False)])
def test_a_percent_is_no_upsampling(l0, fine):
    if fine:
        grid.refuse_upsampling(slide="s", size=grid.TileSize(l0 / 2, l0), px=224, mpp=0.5)
    else:
        with pytest.raises(ValueError, match="221 px of level 0"):
            grid.refuse_upsampling(slide="s", size=grid.TileSize(l0 / 2, l0), px=224, mpp=0.5)


# places


def places(*arguments):
    return list(zip(*(column.tolist() for column in grid.place_grid(*arguments)), strict=True))


def test_the_grid_row_by_row():
    assert places((0, 0, 650, 420), 200, 200) == [
        *[(0, 0, 0, 0), (1, 0, 200, 0), (2, 0, 400, 0)],
        *[(0, 1, 0, 200), (1, 1, 200, 200), (2, 1, 400, 200)],
    ]


def test_a_grid_with_overlap():
    assert places((0, 0, 400, 200), 200, 100) == [(0, 0, 0, 0), (1, 0, 100, 0), (2, 0, 200, 0)]


def test_a_grid_within_the_scanned_part():
    assert places((1000, 500, 410, 399), 200, 200) == [(0, 0, 1000, 500), (1, 0, 1200, 500)]


@pytest.mark.parametrize(("width", "n"), [(199, 0), (200, 1), (399, 1), (400, 2), (10, 0), (1, 0)])
def test_no_tile_is_cut_off(width, n):
    assert len(places((0, 0, width, 200), 200, 200)) == n
    assert len(places((0, 0, 200, width), 200, 200)) == n
    assert len(places((0, 0, width, 199), 200, 200)) == 0


def test_places_far_out_do_not_overflow():
    col, row, l0_x, l0_y = grid.place_grid((3_000_000_000, 0, 1000, 1000), 500, 500)
    assert l0_x.tolist() == [3_000_000_000, 3_000_000_500] * 2
    assert [column.dtype for column in (col, row, l0_x, l0_y)] == [np.int32, np.int32, np.int64, np.int64]


# means under tiles


def mean_by_hand(picture, x, y, size, downsample):
    """Return the mean under a tile, pixel by pixel, each weighted by the area that it shares with the tile."""
    total = area = 0.0
    for row in range(picture.shape[0]):
        for column in range(picture.shape[1]):
            across = min((column + 1) * downsample, x + size) - max(column * downsample, x)
            down = min((row + 1) * downsample, y + size) - max(row * downsample, y)
            if across > 0 and down > 0:
                total += across * down * float(picture[row, column])
                area += across * down
    return total / area


@pytest.mark.parametrize("downsample", [1.0, 2.0, 3.7, 16.02, 40.0])
@pytest.mark.parametrize("kind", [bool, float])
def test_means_are_those_of_pixel_by_pixel(downsample, kind):
    rng = np.random.default_rng(0)
    picture = rng.random((17, 23)) if kind is float else rng.random((17, 23)) > 0.5
    size = 37
    width, height = int(23 * downsample), int(17 * downsample)
    if min(width, height) < size:
        size = 11
    x, y = rng.integers(0, width - size + 1, 40), rng.integers(0, height - size + 1, 40)
    x[:2], y[:2] = (0, width - size), (0, height - size)
    found = grid.area_means(picture, x, y, size, downsample)
    assert found.dtype == np.float32
    assert found == pytest.approx(
        [mean_by_hand(picture, *place, size, downsample) for place in zip(x, y, strict=True)], abs=1e-6
    )


def test_a_mean_by_hand():
    picture = np.array([[1.0, 0.0], [0.5, 0.25]])
    # a tile of 10 px on pixels of 8: at (0, 0) it has 64 of the first, 16 of each neighbour, 4 of the last;
    # at (3, 6) it has 5 columns of each, 2 rows of the upper and 8 of the lower
    found = grid.area_means(picture, np.array([0, 3]), np.array([0, 6]), 10, 8.0)
    assert found.tolist() == pytest.approx([0.64 + 0.16 * 0.5 + 0.04 * 0.25, 0.1 + 0.4 * 0.5 + 0.4 * 0.25])


def test_a_tile_beyond_the_overview_has_the_mean_of_what_is_on_it():
    """A level's size is rounded down: its last pixel may end before the slide does."""
    white = np.ones((10, 10))
    found = grid.area_means(white, np.array([90, 95]), np.array([0, 93]), 10, 10.0)
    assert found.tolist() == [1.0, 1.0]


# homogeneity


def grey(levels):
    return np.repeat(np.array(levels, np.uint8)[:, :, None], 3, axis=2)


def test_bright_pixels_are_those_above_otsus_threshold():
    picture = grey([[240, 250, 90], [100, 110, 245]])
    assert grid.homogeneity_map(picture, "bright").tolist() == [[1, 1, 0], [0, 0, 1]]


def test_brightness_is_luma():
    # 0.299 * 200 = 59.8, 0.587 * 200 = 117.4, 0.114 * 200 = 22.8: green alone is bright
    picture = np.zeros((1, 3, 3), np.uint8)
    picture[0, 0, 0] = picture[0, 1, 1] = picture[0, 2, 2] = 200
    assert grid.homogeneity_map(picture, "bright").tolist() == [[0, 1, 0]]


@pytest.mark.parametrize(("measure", "level"), [("bright", 255), ("bright", 128), ("glcm", 255), ("glcm", 0)])
def test_a_picture_of_one_colour_is_homogeneous(measure, level):
    assert (grid.homogeneity_map(grey(np.full((5, 6), level)), measure) == 1).all()


def test_stripes_by_hand():
    # neighbours across differ by 3, neighbours down by 0
    found = grid.homogeneity_map(grey([[10, 13, 10, 13]] * 3), "glcm")
    assert found[:, :3] == pytest.approx(np.full((3, 3), (1 / 10 + 1) / 2))
    # the last column has no neighbour
    assert found[:, 3].tolist() == [1, 1, 1]


def test_the_mean_of_the_map_is_haralicks_inverse_difference_moment():
    """Haralick et al. 1973, feature 5: the sum of p(i, j) / (1 + (i - j)^2), of pairs across and pairs down."""
    levels = np.random.default_rng(0).integers(0, 12, (30, 40))
    matrix = np.zeros((12, 12))
    for pairs in ((levels[:-1, :-1], levels[:-1, 1:]), (levels[:-1, :-1], levels[1:, :-1])):
        np.add.at(matrix, pairs, 1)
    i, j = np.mgrid[:12, :12]
    moment = (matrix / matrix.sum() / (1 + (i - j) ** 2)).sum()
    assert grid.homogeneity_map(grey(levels), "glcm")[:-1, :-1].mean() == pytest.approx(moment, rel=1e-6)


# what is kept


def judge(tissue_share, measured=None, *, slide="s", master_seed=1, **tiling):
    n = len(tissue_share)
    cells = {
        "col": np.arange(n, dtype=np.int32),
        "row": np.zeros(n, np.int32),
        "tissue": np.array(tissue_share, np.float32),
        "homogeneity": np.array(measured or [0.0] * n, np.float32),
    }
    status = grid.judge(cells, tiling=replace(PLAIN, **tiling), slide=slide, master_seed=master_seed)
    assert status.dtype == np.uint8
    return [grid.STATUSES[code] for code in status]


def test_the_tissue_threshold_itself_is_kept():
    assert judge([0.0, 0.79, 0.8, 1.0], tissue_min=0.8) == ["background", "background", "kept", "kept"]


@pytest.mark.parametrize("least", [None, 0, 0.0])
def test_without_a_tissue_threshold_all_are_kept(least):
    assert judge([0.0, 1.0], tissue_min=least) == ["kept", "kept"]


def test_the_homogeneity_threshold_itself_is_dropped():
    tiling = {"homogeneity": "bright", "homogeneity_drop_at": 0.99, "tissue_min": 0.5}
    found = judge([1.0, 1.0, 1.0, 0.0], [0.98, 0.99, 1.0, 1.0], **tiling)
    assert found == ["kept", "homogeneous", "homogeneous", "background"]


def test_homogeneity_that_is_not_asked_for_drops_nothing():
    assert judge([1.0], [1.0]) == ["kept"]


def kept(found):
    return {index for index, status in enumerate(found) if status == "kept"}


def test_a_cap_keeps_as_many_as_it_says_and_always_the_same():
    found = judge([1.0] * 100, max_tiles_per_slide=30)
    assert len(kept(found)) == 30
    assert found.count("capped") == 70
    assert judge([1.0] * 100, max_tiles_per_slide=30) == found
    assert judge([1.0] * 100, max_tiles_per_slide=100) == ["kept"] * 100
    assert judge([1.0] * 100, max_tiles_per_slide=101) == ["kept"] * 100


def test_a_cap_is_drawn_by_seed_and_slide():
    draws = [
        kept(judge([1.0] * 100, max_tiles_per_slide=30, slide=slide, master_seed=seed))
        for slide, seed in (("a", 1), ("b", 1), ("a", 2))
    ]
    assert draws[0] != draws[1]
    assert draws[0] != draws[2]


def test_a_lower_cap_keeps_a_part_of_what_a_higher_one_keeps():
    found = [kept(judge([1.0] * 100, max_tiles_per_slide=cap)) for cap in (1, 5, 30, 70, 100)]
    assert all(less < more for less, more in itertools.pairwise(found))


def test_a_changed_threshold_moves_no_more_tiles_than_it_takes_away():
    shares = np.random.default_rng(0).random(200)
    before = kept(judge(shares, tissue_min=0.3, max_tiles_per_slide=40))
    after = kept(judge(shares, tissue_min=0.35, max_tiles_per_slide=40))
    gone = {index for index in before if shares[index] < 0.35}
    assert 0 < len(gone) < 10
    assert before - after == gone
    assert len(after - before) == len(gone)


# the file


def gridded(folder, path, *, finest_px=32, exists=True, master_seed=1, sheet_mpp=None, **tiling):
    """Inspect a slide, find its tissue and write its grid; return arrays and attributes."""
    given = str(path) if exists else []
    reader.inspect_slide(
        description=str(folder / "s.json"),
        slide="s",
        image_in_sheet="S/1",
        path="s.svs",
        sheet_mpp=sheet_mpp,
        missing_mpp="exclude",
        slide_file=given,
    )
    files = {"description": str(folder / "s.json"), "mask": str(folder / "s.png")}
    tissue.write_mask(slide_file=given, **files, overlay=str(folder / "s.jpg"), threshold="otsu", exclude_pen=True)
    grid.write_grid(
        slide_file=given,
        **files,
        grid=str(folder / "s.h5"),
        tiling=replace(PLAIN, **tiling),
        finest_px=finest_px,
        master_seed=master_seed,
    )
    with h5py.File(folder / "s.h5") as file:
        return {name: data[:] for name, data in file.items()}, dict(file.attrs)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A slide of 2048 x 1536 px at 0.5 um, half of it an ellipse of tissue."""
    return slide_factory.write_slide(tmp_path_factory.mktemp("made") / "a.svs", size=(2048, 1536))


def in_ellipse(x, y, size, width, height):
    """Return the share of tiles that the factory's ellipse covers, at full resolution."""
    column, row = np.ogrid[-1 : 1 : width * 1j], np.ogrid[-1 : 1 : height * 1j]
    inside = row[:, None] ** 2 + column[None, :] ** 2 < 0.8**2
    return np.array([inside[b : b + size, a : a + size].mean() for a, b in zip(x, y, strict=True)])


def test_the_grid_of_a_slide(tmp_path, made):
    cells, said = gridded(tmp_path, made)
    # tiles of 64 um have 128 px
    assert {name: (data.dtype, data.shape) for name, data in cells.items()} == {
        **dict.fromkeys(["col", "row"], (np.int32, (192,))),
        **dict.fromkeys(["l0_x", "l0_y"], (np.int64, (192,))),
        **dict.fromkeys(["tissue", "homogeneity"], (np.float32, (192,))),
        "status": (np.uint8, (192,)),
    }
    assert np.array_equal(cells["l0_x"], cells["col"] * 128)
    assert np.array_equal(cells["l0_y"], cells["row"] * 128)
    share = in_ellipse(cells["l0_x"], cells["l0_y"], 128, 2048, 1536)
    assert np.abs(cells["tissue"] - share).max() < 0.12
    assert np.abs(cells["tissue"] - share).mean() < 0.01
    clear = np.abs(share - 0.5) > 0.12
    assert np.array_equal((cells["status"] == 0)[clear], (share > 0.5)[clear])
    assert {name: said[name] for name in said.keys() - {"versions", "tiles_digest"}} == {
        **{"slide": "s", "image_in_sheet": "S/1", "status": "ok", "reason": "", "notice": ""},
        **{"status_names": '["kept", "background", "homogeneous", "capped"]'},
        **{"l0_size": 128, "l0_step": 128, "size_um": 64.0, "mpp": 0.5, "mpp_source": "file"},
    }


def test_kept_tiles_come_back_with_their_names_and_places(tmp_path, made):
    cells, said = gridded(tmp_path, made)
    found = grid.read_kept(str(tmp_path / "s.h5"))
    chosen = cells["status"] == 0
    assert found.tile == [f"{c}_{r}" for c, r in zip(cells["col"][chosen], cells["row"][chosen], strict=True)]
    assert found.coords.dtype == np.int64
    assert np.array_equal(found.coords, np.stack([cells["l0_x"], cells["l0_y"]], axis=1)[chosen])
    assert found.attributes["l0_size"] == 128
    assert type(found.attributes["l0_size"]) is int
    assert found.attributes["tiles_digest"] == said["tiles_digest"]


def test_overlapping_tiles(tmp_path, made):
    cells, said = gridded(tmp_path, made, overlap=0.5)
    assert said["l0_step"] == 64
    assert sorted(set(cells["l0_x"].tolist())) == list(range(0, 2048 - 128 + 1, 64))
    assert sorted(set(cells["l0_y"].tolist())) == list(range(0, 1536 - 128 + 1, 64))


def test_the_digest_of_a_tile_set_tells_which_tiles_of_which_slide(tmp_path, made):
    def digest(path=made, **tiling):
        return gridded(tmp_path, path, **tiling)[1]["tiles_digest"]

    other = slide_factory.write_slide(tmp_path / "b.svs", size=(2048, 1536), seed=9)
    first = digest()
    assert digest() == first
    # another threshold that keeps the same tiles
    assert digest(tissue_min=0.5 + 1e-6) == first
    assert len({first, digest(tissue_min=0.9), digest(size_um=65), digest(overlap=0.5), digest(other)}) == 5


def test_the_cap_and_its_notice(tmp_path, made):
    everything = (gridded(tmp_path, made)[0]["status"] == 0).sum()
    cells, said = gridded(tmp_path, made, max_tiles_per_slide=10)
    assert (cells["status"] == 0).sum() == 10
    assert (cells["status"] == 3).sum() == everything - 10
    assert said["notice"] == ""
    cells, said = gridded(tmp_path, made, max_tiles_per_slide=500)
    assert said["notice"] == f"{everything} tiles, 500 asked"
    assert said["status"] == "ok"


def test_upsampling_is_refused_unless_the_tiling_says_so(tmp_path, made):
    with pytest.raises(ValueError, match=r"^slide S/1: tiles of 64 um reduced to 224 px"):
        gridded(tmp_path, made, finest_px=224)
    assert not (tmp_path / "s.h5").exists()
    assert gridded(tmp_path, made, finest_px=224, upsample=True)[1]["status"] == "ok"


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        ((200, 1000), "the scanned part, 200 x 1000 px, is smaller than one tile of 256 px"),
        ((1000, 255), "the scanned part, 1000 x 255 px, is smaller than one tile of 256 px"),
        ((40, 40), None),
    ],
)
def test_a_slide_smaller_than_one_tile_has_a_status(tmp_path, size, reason):
    path = slide_factory.write_slide(tmp_path / "a.svs", size=size)
    cells, said = gridded(tmp_path, path, size_um=128.0, tissue_min=0.0)
    assert said["status"] == "no tissue"
    assert all(len(column) == 0 for column in cells.values())
    if reason:
        assert said["reason"] == reason
    found = grid.read_kept(str(tmp_path / "s.h5"))
    assert (found.tile, found.coords.shape) == ([], (0, 2))


def test_a_slide_of_which_no_tile_passes_has_a_status(tmp_path, made):
    cells, said = gridded(tmp_path, made, size_um=600.0, tissue_min=0.999)
    assert (said["status"], said["reason"]) == (
        "no tissue",
        "none of 1 tiles passes the tissue and homogeneity filters",
    )
    assert cells["status"].tolist() == [1]


@pytest.mark.parametrize(
    ("kind", "status"), [("missing", "missing"), ("empty", "unreadable"), ("no mpp", "no mpp"), ("blank", "no tissue")]
)
def test_a_slide_that_cannot_be_used_has_no_cells_and_says_why(tmp_path, kind, status):
    path = tmp_path / "a.svs"
    options = {"no mpp": {"mpp": None, "power": None}, "blank": {"tissue": False}}
    if kind == "empty":
        slide_factory.zero_bytes(path)
    elif kind != "missing":
        slide_factory.write_slide(path, size=(1024, 1024), **options[kind])
    cells, said = gridded(tmp_path, path, exists=kind != "missing", finest_px=10_000)
    assert said["status"] == status
    assert said["reason"]
    assert {name: (data.dtype, data.shape) for name, data in cells.items()} == {
        **dict.fromkeys(["col", "row"], (np.int32, (0,))),
        **dict.fromkeys(["l0_x", "l0_y"], (np.int64, (0,))),
        **dict.fromkeys(["tissue", "homogeneity"], (np.float32, (0,))),
        "status": (np.uint8, (0,)),
    }
    assert grid.read_kept(str(tmp_path / "s.h5")).tile == []


def test_a_slide_that_breaks_after_its_mask_gets_a_status(tmp_path):
    path = slide_factory.write_slide(tmp_path / "a.svs", size=(512, 512), levels=False)
    assert gridded(tmp_path, path)[1]["status"] == "ok"
    slide_factory.corrupt_later_tiles(path)
    arguments = {"description": str(tmp_path / "s.json"), "mask": str(tmp_path / "s.png")}
    grid.write_grid(
        slide_file=str(path), **arguments, grid=str(tmp_path / "s.h5"), tiling=PLAIN, finest_px=32, master_seed=1
    )
    found = grid.read_kept(str(tmp_path / "s.h5"))
    assert found.attributes["status"] == "unreadable"
    assert found.tile == []


def test_white_tiles_at_the_edge_of_a_slide_are_homogeneous_too(tmp_path):
    """The slide's size is no multiple of an overview pixel: 16 px, of which 15 are left at the right."""
    path = slide_factory.write_slide(tmp_path / "a.svs", size=(1999, 1999))
    tiling = {"homogeneity": "bright", "homogeneity_drop_at": 0.99, "tissue_min": 0.0, "size_um": 49.95}
    # tiles of 100 px, 9 px apart: the last ends at the very edge
    cells, said = gridded(tmp_path, path, **{**tiling, "overlap": 0.91})
    assert (said["l0_size"], said["l0_step"]) == (100, 9)
    last = cells["l0_x"] == 1899
    corner = last & ((cells["l0_y"] == 1899) | (cells["l0_y"] == 0))
    assert corner.sum() == 2
    assert cells["homogeneity"][corner].tolist() == [1.0, 1.0]
    assert (cells["status"][corner] == 2).all()


# the presets of config.yaml


@pytest.fixture(scope="module")
def at_10x(tmp_path_factory):
    """A slide of 3000 x 2000 px at 1 um."""
    return slide_factory.write_slide(tmp_path_factory.mktemp("made") / "a.svs", size=(3000, 2000), mpp=1.0, power=10)


def test_kieffer_2017(tmp_path, at_10x):
    tiling = preset("kieffer2017")
    assert tiling["grayscale"] is True
    cells, said = gridded(tmp_path, at_10x, finest_px=299, **tiling)
    # 1000 px at 0.5 um are 500 px of this slide
    assert (said["l0_size"], said["size_um"], len(cells["col"])) == (500, 500.0, 24)
    background = 1 - in_ellipse(cells["l0_x"], cells["l0_y"], 500, 3000, 2000)
    assert np.array_equal(cells["status"] == 2, background >= 0.99)
    assert (cells["status"] == 2).sum() == 4
    assert (cells["status"] == 0).sum() == 20


def test_takahama_2019(tmp_path, at_10x):
    cells, said = gridded(tmp_path, at_10x, finest_px=128, **preset("takahama2019"))
    assert (said["l0_size"], said["size_um"], len(cells["col"])) == (128, 128.0, 23 * 15)
    share = in_ellipse(cells["l0_x"], cells["l0_y"], 128, 3000, 2000)
    clear = np.abs(share - 0.8) > 0.05
    assert clear.mean() > 0.95
    assert np.array_equal((cells["status"] == 0)[clear], (share > 0.8)[clear])
    assert set(cells["status"].tolist()) == {0, 1}
