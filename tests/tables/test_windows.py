"""Random windows: inside their tile, the same whatever is read with it, and described as a reader would by hand."""

from __future__ import annotations

import colorsys

import h5py
import numpy as np
import pytest
from pixel_factory import noise, write_pixels

from histotransfer.feature_kinds import Windows
from histotransfer.sheets import samples
from histotransfer.slides import patches
from histotransfer.tables import windows

SETTINGS = {"windows": 6, "window_px": 4, "smallest": 0.25, "largest": 1.0}


def opened(*paths, px=16, master_seed=2018, **changes):
    settings = Windows(px, **{**SETTINGS, **changes})
    return windows.open_windows(pixels=list(paths), windows=settings, master_seed=master_seed)


def places_of(image="a", tile="0_0", master_seed=1, **settings):
    return windows.window_places(Windows(**settings), image=image, tile=tile, master_seed=master_seed)


def test_windows_lie_inside_the_tile_and_have_every_size_and_place():
    places = places_of(px=8, windows=4000, smallest=0.25, largest=0.5)
    left, top, size = places.T
    assert set(size.tolist()) == {2, 3, 4}
    assert places[:, :2].min() == 0
    for edge in (2, 3, 4):
        # each of the places where the window ends inside the tile, and no other
        assert set(left[size == edge].tolist()) == set(range(8 - edge + 1))
        assert set(top[size == edge].tolist()) == set(range(8 - edge + 1))
    # sizes in between are twice as many as those at the ends, which take half a pixel's width each
    assert np.bincount(size, minlength=5)[2:] == pytest.approx([1000, 2000, 1000], abs=120)


@pytest.mark.parametrize(
    ("smallest", "largest", "expected"),
    [(1.0, 1.0, {(0, 0, 8)}), (0.01, 0.01, {(x, y, 1) for x in range(8) for y in range(8)})],
)
def test_windows_as_large_as_the_tile_and_as_small_as_a_pixel(smallest, largest, expected):
    places = places_of(px=8, windows=1000, smallest=smallest, largest=largest)
    assert set(map(tuple, places.tolist())) == expected


def test_places_depend_on_the_seed_and_the_tiles_name_alone():
    said = {"px": 32, "windows": 5, "smallest": 0.25, "largest": 1.0}
    first = places_of(**said).tolist()
    assert places_of(**said).tolist() == first
    more = places_of(**{**said, "windows": 9}).tolist()
    assert more[:5] == first
    others = [("b", "0_0", 1), ("a", "0_1", 1), ("a", "0_0", 2)]
    for image, tile, seed in others:
        assert places_of(image, tile, seed, **said).tolist() != first


def test_a_window_of_its_own_size_is_the_pixels_there_in_hue_saturation_and_value():
    [tile] = noise(1, px=16)
    [found] = windows.cut(tile, np.array([[3, 5, 4]]), 4)
    for y in range(4):
        for x in range(4):
            expected = colorsys.rgb_to_hsv(*(tile[5 + y, 3 + x] / 255))
            # Pillow cuts fractions off
            assert np.abs(found[y, x] - 255 * np.array(expected)).max() <= 1


@pytest.mark.parametrize(
    ("rgb", "hsv"),
    [
        ((255, 255, 255), (0, 0, 255)),
        ((255, 0, 0), (0, 255, 255)),
        ((0, 255, 0), (85, 255, 255)),
        ((0, 0, 128), (170, 255, 128)),
        ((100, 100, 100), (0, 0, 100)),
    ],
)
def test_a_tile_of_one_colour_has_windows_of_that_colour(tmp_path, rgb, hsv):
    path = write_pixels(tmp_path / "a.h5", np.full((2, 16, 16, 3), rgb, np.uint8))
    found = opened(path).read()
    assert found.dtype == np.uint8
    assert found.shape == (2, 6 * 4 * 4 * 3)
    assert (found.reshape(-1, 3) == hsv).all()


def test_a_reduced_window_holds_nothing_from_outside_it():
    tile = np.zeros((16, 16, 3), np.uint8)
    tile[4:12, 2:10] = 200
    [found] = windows.cut(tile, np.array([[2, 4, 8]]), 4)
    assert (found == [0, 0, 200]).all()
    # a chequerboard finer than the window's pixels becomes its mean, and no pattern of its own
    tile[:] = 200 * (np.indices((16, 16)).sum(axis=0) % 2)[:, :, None]
    [found] = windows.cut(tile, np.array([[0, 0, 16]]), 4)
    assert np.abs(found[:, :, 2].astype(int) - 100).max() <= 10


def test_a_tiles_windows_are_the_same_whatever_is_read_with_it(tmp_path):
    tiles = noise(7, px=16)
    names = {"tile": [f"{k}_0" for k in range(7)], "image": ["a", "a", "b", "b", "b", "c", "c"]}
    whole = opened(write_pixels(tmp_path / "whole.h5", tiles, **names))
    parts = [
        write_pixels(
            tmp_path / f"part-{number}.h5",
            tiles[order],
            **{name: [texts[k] for k in order] for name, texts in names.items()},
            chunked=number == 0,
        )
        for number, order in enumerate([[6, 2, 0], [5], [4, 3, 1]])
    ]
    split = opened(parts[2], parts[0], parts[1])
    assert split.tile == [f"{k}_0" for k in (6, 2, 0, 5, 4, 3, 1)]
    assert split.image == ["c", "b", "a", "c", "b", "b", "a"]
    expected = whole.read()
    order = np.array([6, 2, 0, 5, 4, 3, 1])
    assert (split.read() == expected[order]).all()
    # some rows, across files and backwards, one of them twice
    rows = np.array([6, 0, 3, 0, 2])
    assert (split.read(rows) == expected[order[rows]]).all()
    columns = np.array([5, 0, 200])
    assert (split.read(rows, columns) == expected[order[rows]][:, columns]).all()
    assert split.read(np.array([], int)).shape == (0, 288)
    # and tiles differ
    assert len(np.unique(expected, axis=0)) == 7


def test_each_row_is_the_windows_at_its_tiles_places(tmp_path):
    tiles = noise(3, px=16)
    index = opened(write_pixels(tmp_path / "a.h5", tiles))
    places = places_of("a", "2_0", 2018, px=16, windows=6, smallest=0.25, largest=1.0)
    assert (index.read(np.array([2])).reshape(6, 4, 4, 3) == windows.cut(tiles[2], places, 4)).all()


def test_what_an_index_says(tmp_path):
    unusable = write_pixels(tmp_path / "c.h5", noise(0, px=16), status="unreadable", reason="broken")
    paths = [write_pixels(tmp_path / f"{name}.h5", noise(2, px=16)) for name in "ba"]
    index = opened(*paths, unusable)
    assert index.tile == ["0_0", "1_0", "0_0", "1_0"]
    assert index.image == ["a", "a", "b", "b"]
    assert index.n_features == 288
    [columns] = index.columns
    assert (columns.network, columns.layer, columns.start, columns.stop) == ("the pixels", "windows", 0, 288)
    said = index.attributes
    assert (said["network"], said["weights"], said["untrained"]) == ("", "none: random windows of the pixels", False)
    assert said["tiles_digests"] == {"a": "tiles of a", "b": "tiles of b"}
    assert said["versions"]["h5py"] == h5py.__version__


def test_pixels_of_patches_are_read_as_they_were_written(tmp_path):
    from PIL import Image

    folder = tmp_path / "patches"
    folder.mkdir()
    pictures = noise(3, px=20)
    rows = ["tile\tpath\timage\tlabel"]
    for k, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{k}.png")
        rows.append(f"t{k}\t{k}.png\timage-{k}\tx")
    sheet = folder / "sheet.tsv"
    sheet.write_text("\n".join(rows) + "\n")
    about = {"sheet": str(sheet), "kind": "patches", "root": str(folder)}
    samples.check_table(table_file=str(tmp_path / "table.json"), **about)
    pixels = str(tmp_path / "part-00.h5")
    patches.write_part(
        table=str(tmp_path / "table.json"),
        pixels=pixels,
        part="part-00",
        n_parts=1,
        px=20,
        crop=None,
        grayscale=False,
        **about,
    )
    index = opened(pixels, px=20, windows=1, window_px=20, smallest=1.0)
    assert index.tile == ["t0", "t1", "t2"]
    expected = [np.asarray(Image.fromarray(picture).convert("HSV")) for picture in pictures]
    assert (index.read().reshape(3, 20, 20, 3) == expected).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"smallest": 0.8, "largest": 0.5}, "0 < smallest <= largest <= 1; found 0.8 and 0.5"),
        ({"smallest": 0.0}, "found 0.0 and 1.0"),
        ({"largest": 1.1}, "found 0.25 and 1.1"),
        ({"smallest": float("nan")}, "found nan and 1.0"),
        ({"windows": 0}, "windows: legal are integers of at least 1; found 0"),
        ({"window_px": 0}, "window_px: legal are integers of at least 1; found 0"),
        ({"px": 32}, "a.h5: windows are to be cut from tiles of 32 px; found 16 px"),
    ],
)
def test_settings_that_are_not_legal(tmp_path, changes, message):
    path = write_pixels(tmp_path / "a.h5", noise(2, px=16))
    with pytest.raises(ValueError, match=message):
        opened(path, **changes)


def test_files_that_cannot_be_read(tmp_path):
    path = write_pixels(tmp_path / "a.h5", noise(4, px=16))
    index = opened(path)
    content = (tmp_path / "a.h5").read_bytes()
    with pytest.raises(ValueError, match=r"found no file .*b\.h5"):
        opened(path, str(tmp_path / "b.h5"))
    (tmp_path / "a.h5").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"a\.h5 is damaged.*found: .*truncated"):
        opened(path)
    with pytest.raises(ValueError, match=r"a\.h5 is damaged.*found: .*truncated"):
        index.read()
    (tmp_path / "a.h5").unlink()
    with pytest.raises(ValueError, match=r"found no file .*a\.h5"):
        index.read()
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.attrs["status"] = "ok"
    with pytest.raises(ValueError, match=r"b\.h5 is damaged.*found: .*'tile'"):
        opened(str(tmp_path / "b.h5"))


def test_files_that_do_not_fit(tmp_path):
    path = write_pixels(tmp_path / "a.h5", noise(2, px=16), tile=["0_0"])
    with pytest.raises(ValueError, match=r"a\.h5 is damaged.*shape \(1, 16, 16, 3\); found \(2, 16, 16, 3\)"):
        opened(path)
    unusable = write_pixels(tmp_path / "b.h5", noise(0, px=16), status="unreadable", reason="broken")
    with pytest.raises(ValueError, match=r"pixel files that have tiles; found none in .*b\.h5"):
        opened(unusable)
    with pytest.raises(ValueError, match="found none in no file"):
        opened()
    (tmp_path / "other").mkdir()
    twice = write_pixels(tmp_path / "other" / "b.h5", noise(2, px=16))
    with pytest.raises(ValueError, match="must stand in one file; found b in"):
        opened(unusable, twice)
