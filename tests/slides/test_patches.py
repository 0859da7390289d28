"""Tiles from image files: patches cut already, and windows around points; a file that cannot be read costs its rows."""

from __future__ import annotations

import struct
import zlib

import h5py
import numpy as np
import pytest
import slide_factory
import tifffile
from PIL import Image

from histotransfer import store
from histotransfer.definitions import Crop
from histotransfer.sheets import ids, samples
from histotransfer.slides import patches, pixels

RGB = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)


# image files


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_an_image_is_read_as_it_is(tmp_path, suffix):
    Image.fromarray(RGB).save(tmp_path / f"a.{suffix}")
    found = patches.open_image(str(tmp_path / f"a.{suffix}"))
    assert found.dtype == np.uint8
    assert np.array_equal(found, RGB)


def test_other_modes_become_colours(tmp_path):
    grey = RGB[:, :, 0]
    Image.fromarray(grey).save(tmp_path / "l.png")
    assert np.array_equal(patches.open_image(str(tmp_path / "l.png")), np.repeat(grey[:, :, None], 3, axis=2))

    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 128, 255])
    palette.putdata([0, 1])
    palette.save(tmp_path / "p.png")
    assert patches.open_image(str(tmp_path / "p.png")).tolist() == [[[255, 0, 0], [0, 128, 255]]]

    Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1").save(tmp_path / "one.png")
    assert patches.open_image(str(tmp_path / "one.png")).tolist() == [[[0, 0, 0], [255, 255, 255]]]


def test_what_is_transparent_lies_on_white(tmp_path):
    rgba = np.array([[[200, 100, 0, 255], [0, 0, 0, 0], [200, 100, 0, 51]]], np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    # 51 of 255 is a fifth: 0.2 * 200 + 0.8 * 255 = 244
    assert patches.open_image(str(tmp_path / "a.png")).tolist() == [[[200, 100, 0], [255, 255, 255], [244, 224, 204]]]

    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 128, 255])
    palette.putdata([0, 1])
    palette.save(tmp_path / "p.png", transparency=0)
    assert patches.open_image(str(tmp_path / "p.png")).tolist() == [[[255, 255, 255], [0, 128, 255]]]


def write_16_bit_png(path, colour_type, channels):
    """Pillow writes none in colour."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + bytes(range(2 * channels * 4)) for _ in range(3))
    header = struct.pack(">IIBBBBB", 4, 3, 16, colour_type, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)


def break_off(path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)).save(path)
    slide_factory.truncate(path)


def write_tiff(path, data, photometric):
    tifffile.imwrite(path, data, photometric=photometric)


def write_bomb(path):
    """A BMP whose header promises 100,000 x 100,000 pixels."""
    Image.fromarray(RGB).save(path, format="BMP")
    data = bytearray(path.read_bytes())
    data[18:26] = struct.pack("<ii", 100_000, 100_000)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        ("missing.png", lambda path: None, "no such file"),
        ("empty.png", slide_factory.zero_bytes, "not an image that Pillow can read"),
        ("letter.png", slide_factory.not_an_image, "not an image that Pillow can read"),
        ("half.png", break_off, "truncated"),
        ("half.jpg", break_off, "truncated"),
        ("half.tif", break_off, None),
        ("folder.png", lambda path: path.mkdir(), "Is a directory"),
        ("grey16.png", lambda path: write_16_bit_png(path, 0, 1), "8 bits a channel are needed"),
        ("rgb16.png", lambda path: write_16_bit_png(path, 2, 3), "8 bits a channel are needed"),
        ("rgba16.png", lambda path: write_16_bit_png(path, 6, 4), "8 bits a channel are needed"),
        ("rgb16.tif", lambda path: write_tiff(path, RGB.astype(np.uint16), "rgb"), "8 bits a channel are needed"),
        ("grey16.tif", lambda path: write_tiff(path, RGB[..., 0].astype(np.uint16), None), "8 bits a channel are"),
        (
            "float.tif",
            lambda path: write_tiff(path, RGB[..., 0].astype(np.float32), None),
            "8 bits a channel are needed",
        ),
        ("bomb.bmp", write_bomb, "exceeds limit"),
    ],
)
def test_a_file_of_which_no_tile_can_be_made_says_why(tmp_path, name, make, reason):
    make(tmp_path / name)
    with pytest.raises(patches.UnusableImageError, match=r"^[^\n]+$") as caught:
        patches.open_image(str(tmp_path / name))
    assert reason is None or reason in str(caught.value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp", "gif", "webp"])
def test_damage_anywhere_gives_an_image_or_a_reason(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(RGB).save(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    reasons = []
    for trial in range(60):
        data = bytearray(whole)
        if trial % 3 == 0:
            del data[int(rng.integers(len(data))) :]
        for _ in range(trial % 3):
            data[int(rng.integers(min(len(data), 120)))] = int(rng.integers(256))
        path.write_bytes(data)
        try:
            assert patches.open_image(str(path)).ndim == 3
        except patches.UnusableImageError as error:
            reasons.append(str(error))
    assert len(reasons) >= 10
    assert all(reasons)


# squares and windows


def numbered(height, width):
    """Return a picture whose first two channels say row and column."""
    row, column = np.mgrid[:height, :width]
    return np.stack([row, column, row * 0], axis=2).astype(np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "top", "left", "size"),
    [(4, 4, 0, 0, 4), (4, 6, 0, 1, 4), (4, 7, 0, 1, 4), (9, 4, 2, 0, 4), (1, 5, 0, 2, 1)],
)
def test_the_centred_square(height, width, top, left, size):
    found = patches.centred_square(numbered(height, width))
    assert found.shape == (size, size, 3)
    assert found[0, 0].tolist() == [top, left, 0]
    assert found[-1, -1].tolist() == [top + size - 1, left + size - 1, 0]


@pytest.mark.parametrize(
    ("x", "y", "size", "left", "top"),
    [(5, 4, 4, 3, 2), (5, 4, 3, 4, 3), (5.9, 4.2, 4, 3, 2), (2, 2, 4, 0, 0), (8, 6, 4, 6, 4), (5, 4, 1, 5, 4)],
)
@pytest.mark.parametrize("border", ["exclude", "reflect"])
def test_a_window_inside_the_picture(x, y, size, left, top, border):
    found = patches.window(numbered(8, 10), x=x, y=y, size=size, border=border)
    assert found.shape == (size, size, 3)
    assert found[0, 0, :2].tolist() == [top, left]
    assert found[-1, -1, :2].tolist() == [top + size - 1, left + size - 1]


@pytest.mark.parametrize(("x", "y"), [(1, 4), (5, 1), (9, 4), (5, 7)])
def test_a_window_beyond_the_edge_is_refused(x, y):
    said = rf"^a window of 4 px around \({x}, {y}\) reaches beyond the image's edge$"
    with pytest.raises(patches.UnusableImageError, match=said):
        patches.window(numbered(8, 10), x=x, y=y, size=4, border="exclude")


@pytest.mark.parametrize(
    ("x", "columns"),
    [
        # the edge pixel stands twice: d c b a | a b c d
        (0, [1, 0, 0, 1]),
        (1, [0, 0, 1, 2]),
        (9, [7, 8, 9, 9]),
    ],
)
def test_a_window_beyond_the_edge_is_mirrored(x, columns):
    found = patches.window(numbered(8, 10), x=x, y=4, size=4, border="reflect")
    assert found[0, :, 1].tolist() == columns
    assert found[:, 0, 0].tolist() == [2, 3, 4, 5]


def test_a_window_larger_than_the_picture_is_mirrored_again_and_again():
    found = patches.window(numbered(2, 3), x=1, y=1, size=12, border="reflect")
    expected = np.pad(numbered(2, 3), ((5, 5), (5, 4), (0, 0)), mode="symmetric")
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(("x", "y"), [(10, 4), (5, 8), (10.0, 0), (400, 400)])
@pytest.mark.parametrize("border", ["exclude", "reflect"])
def test_a_point_outside_the_picture_is_refused(x, y, border):
    with pytest.raises(patches.UnusableImageError, match=r"lies outside the image of 10 x 8 px$"):
        patches.window(numbered(8, 10), x=x, y=y, size=4, border=border)


# parts of a table


CROP = Crop(16)


def write_part(folder, sheet, *, kind="patches", part="part-00", n_parts=1, px=32, crop=CROP, grayscale=False):
    """Check the sheet, write one part, and return arrays, excluded rows and attributes."""
    table = folder / "table.json"
    samples.check_table(sheet=str(sheet), table_file=str(table), kind=kind, root=str(sheet.parent))
    patches.write_part(
        sheet=str(sheet),
        table=str(table),
        pixels=str(folder / "part.h5"),
        kind=kind,
        root=str(sheet.parent),
        part=part,
        n_parts=n_parts,
        px=px,
        crop=crop,
        grayscale=grayscale,
    )
    with h5py.File(folder / "part.h5") as file:
        found = {"tiles": file["tiles"][:], "coords": file["coords"][:]}
        found |= {name: store.read_texts(file, name) for name in ("tile", "image")}
        gone = zip(*(store.read_texts(file["excluded"], name) for name in ("tile", "image", "reason")), strict=True)
        return found, list(gone), dict(file.attrs)


def test_patches_are_written_in_the_order_of_the_sheet(tmp_path):
    rows = slide_factory.write_patches(tmp_path / "png", tmp_path / "sheet.tsv", patients=3, images=2, tiles=20)
    found, gone, said = write_part(tmp_path, tmp_path / "sheet.tsv")
    assert found["tile"] == [row["tile"] for row in rows]
    assert found["image"] == [row["image"] for row in rows]
    assert found["tiles"].shape == (120, 32, 32, 3)
    for row, tile in zip(rows, found["tiles"], strict=True):
        assert np.array_equal(tile, np.asarray(Image.open(tmp_path / row["path"])))
    assert found["coords"].tolist() == [[0, 0]] * 120
    assert gone == []
    digests = [said.pop("digest"), said.pop("tiles_digest")]
    assert [len(digest) for digest in digests] == [64, 64]
    said.pop("versions")
    assert said == {
        **{"slide": "part-00", "status": "ok", "reason": "", "px": 32, "upsampled": False, "grayscale": False},
        **{"kernel": pixels.KERNEL, "notice": ""},
    }


def test_patches_are_squared_reduced_and_greyed(tmp_path):
    Image.fromarray(numbered(40, 60)).save(tmp_path / "wide.png")
    Image.fromarray(numbered(10, 10)).save(tmp_path / "small.png")
    rows = [{"tile": "wide", "path": "wide.png"}, {"tile": "small", "path": "small.png"}]
    sheet = slide_factory.write_sheet(tmp_path / "sheet.tsv", rows)
    found, _, said = write_part(tmp_path, sheet, px=20)
    assert np.array_equal(found["tiles"][0], pixels.resized(numbered(40, 60)[:, 10:50], 20))
    assert np.array_equal(found["tiles"][1], pixels.resized(numbered(10, 10), 20))
    assert said["upsampled"]
    assert found["image"] == ["wide", "small"]
    grey, _, said = write_part(tmp_path, sheet, px=20, grayscale=True)
    assert np.array_equal(grey["tiles"], np.stack([pixels.in_grey(tile) for tile in found["tiles"]]))
    assert said["grayscale"]


def test_points_are_windows_of_their_images(tmp_path):
    rows = slide_factory.write_points(tmp_path / "png", tmp_path / "sheet.tsv", patients=3, points=7)
    found, gone, said = write_part(tmp_path, tmp_path / "sheet.tsv", kind="points", px=16)
    assert found["tile"] == [f"{row['image']}:{number}" for number, row in enumerate(rows, start=2)]
    assert found["image"] == [row["image"] for row in rows]
    assert found["coords"].tolist() == [[int(row["x"]), int(row["y"])] for row in rows]
    for row, tile in zip(rows, found["tiles"], strict=True):
        x, y = int(row["x"]), int(row["y"])
        picture = np.asarray(Image.open(tmp_path / row["path"]))
        assert np.array_equal(tile, picture[y - 8 : y + 8, x - 8 : x + 8])
    assert (gone, said["upsampled"]) == ([], False)


def test_points_are_enlarged_to_the_networks_size_and_that_is_recorded(tmp_path):
    slide_factory.write_points(tmp_path / "png", tmp_path / "sheet.tsv", patients=1)
    found, _, said = write_part(tmp_path, tmp_path / "sheet.tsv", kind="points", px=48)
    assert found["tiles"].shape == (8, 48, 48, 3)
    assert said["upsampled"]


def test_points_of_an_image_need_not_stand_together(tmp_path):
    rows = slide_factory.write_points(tmp_path / "png", tmp_path / "sheet.tsv", patients=2, images=2, points=4)
    apart = rows[::2] + rows[1::2]
    sheet = slide_factory.write_sheet(tmp_path / "sheet.tsv", apart)
    found, gone, _ = write_part(tmp_path, sheet, kind="points", px=16)
    assert gone == []
    # images in order, and within one the rows of the sheet
    expected = sorted(enumerate(apart, start=2), key=lambda numbered_row: (numbered_row[1]["image"], numbered_row[0]))
    assert found["tile"] == [f"{row['image']}:{number}" for number, row in expected]
    for (_, row), tile in zip(expected, found["tiles"], strict=True):
        x, y = int(row["x"]), int(row["y"])
        assert np.array_equal(tile, np.asarray(Image.open(tmp_path / row["path"]))[y - 8 : y + 8, x - 8 : x + 8])


def test_a_row_without_a_tile_is_excluded_with_its_reason_and_the_others_stay(tmp_path):
    rows = slide_factory.write_patches(tmp_path / "png", tmp_path / "sheet.tsv", patients=1, images=2, tiles=4)
    whole, _, before = write_part(tmp_path, tmp_path / "sheet.tsv")
    (tmp_path / rows[1]["path"]).unlink()
    slide_factory.not_an_image(tmp_path / rows[6]["path"])
    found, gone, after = write_part(tmp_path, tmp_path / "sheet.tsv")
    kept = [0, 2, 3, 4, 5, 7]
    assert found["tile"] == [rows[k]["tile"] for k in kept]
    assert np.array_equal(found["tiles"], whole["tiles"][kept])
    assert gone == [
        (rows[1]["tile"], rows[1]["image"], "no such file"),
        (rows[6]["tile"], rows[6]["image"], "not an image that Pillow can read"),
    ]
    assert after["status"] == "ok"
    assert after["digest"] != before["digest"]
    assert after["tiles_digest"] != before["tiles_digest"]


def test_points_near_the_edge_and_in_unreadable_images_are_excluded(tmp_path):
    Image.fromarray(numbered(40, 60)).save(tmp_path / "a.png")
    slide_factory.zero_bytes(tmp_path / "b.png")
    rows = [
        {"image": "a", "path": "a.png", "x": "30", "y": "20"},
        {"image": "a", "path": "a.png", "x": "3", "y": "20"},
        {"image": "a", "path": "a.png", "x": "30", "y": "40"},
        {"image": "b", "path": "b.png", "x": "1", "y": "1"},
        {"image": "b", "path": "b.png", "x": "2", "y": "1"},
    ]
    sheet = slide_factory.write_sheet(tmp_path / "sheet.tsv", rows)
    found, gone, said = write_part(tmp_path, sheet, kind="points", px=16)
    assert found["tile"] == ["a:2"]
    assert gone == [
        ("a:3", "a", "a window of 16 px around (3, 20) reaches beyond the image's edge"),
        ("a:4", "a", "point (30, 40) lies outside the image of 60 x 40 px"),
        ("b:5", "b", "not an image that Pillow can read"),
        ("b:6", "b", "not an image that Pillow can read"),
    ]
    assert said["status"] == "ok"
    found, gone, _ = write_part(tmp_path, sheet, kind="points", px=16, crop=Crop(16, "reflect"))
    assert found["tile"] == ["a:2", "a:3"]
    assert [row[0] for row in gone] == ["a:4", "b:5", "b:6"]


def test_a_part_without_a_tile_says_so(tmp_path):
    sheet = slide_factory.write_sheet(tmp_path / "sheet.tsv", [{"tile": "a", "path": "a.png"}])
    found, gone, said = write_part(tmp_path, sheet)
    assert (found["tiles"].shape, found["coords"].shape, found["tile"]) == ((0, 32, 32, 3), (0, 2), [])
    assert gone == [("a", "a", "no such file")]
    assert (said["status"], said["reason"]) == ("no tiles", "none of 1 rows gave a tile")
    empty = ids.part_ids(2)[1 - ids.bucket("a", 2)]
    _, gone, said = write_part(tmp_path, sheet, part=empty, n_parts=2)
    assert (gone, said["status"], said["reason"]) == ([], "no tiles", "no rows")


@pytest.mark.parametrize("kind", ["patches", "points"])
def test_parts_have_every_row_once_and_no_image_twice(tmp_path, kind):
    make = {"patches": slide_factory.write_patches, "points": slide_factory.write_points}[kind]
    make(tmp_path / "png", tmp_path / "sheet.tsv", patients=8, images=1)
    whole, *_ = write_part(tmp_path, tmp_path / "sheet.tsv", kind=kind, px=16)
    parts = [
        write_part(tmp_path, tmp_path / "sheet.tsv", kind=kind, px=16, part=part, n_parts=3)[0]
        for part in ids.part_ids(3)
    ]
    assert sorted(tile for part in parts for tile in part["tile"]) == sorted(whole["tile"])
    images = [set(part["image"]) for part in parts]
    assert sum(map(len, images)) == len(set(whole["image"])) == 8
    assert all(images)
    by_name = dict(zip(whole["tile"], whole["tiles"], strict=True))
    for part in parts:
        assert all(np.array_equal(by_name[name], tile) for name, tile in zip(part["tile"], part["tiles"], strict=True))


def test_the_digest_of_a_part_changes_with_its_pixels_and_with_nothing_else(tmp_path):
    rows = slide_factory.write_patches(tmp_path / "png", tmp_path / "sheet.tsv", patients=1)
    first = write_part(tmp_path, tmp_path / "sheet.tsv")[2]
    again = write_part(tmp_path, tmp_path / "sheet.tsv")[2]
    assert (again["digest"], again["tiles_digest"]) == (first["digest"], first["tiles_digest"])
    # another label moves no pixel
    slide_factory.write_sheet(tmp_path / "sheet.tsv", [{**row, "label": "gamma"} for row in rows])
    assert write_part(tmp_path, tmp_path / "sheet.tsv")[2]["digest"] == first["digest"]
    path = tmp_path / rows[3]["path"]
    picture = np.asarray(Image.open(path)).copy()
    picture[0, 0, 0] ^= 1
    Image.fromarray(picture).save(path)
    changed = write_part(tmp_path, tmp_path / "sheet.tsv")[2]
    assert changed["digest"] != first["digest"]
    assert changed["tiles_digest"] == first["tiles_digest"]
    assert write_part(tmp_path, tmp_path / "sheet.tsv", px=16)[2]["digest"] != changed["digest"]
    assert write_part(tmp_path, tmp_path / "sheet.tsv", grayscale=True)[2]["digest"] != changed["digest"]
