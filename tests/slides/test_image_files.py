"""Images at their own shape: which square is read, and that it holds the image's own pixels."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from pixel_factory import picture, write_images

from histotransfer.slides import image_files, patches
from histotransfer.tables import tile_pixels

PX = 6


@pytest.mark.parametrize(("height", "width"), [(PX, 9), (9, PX), (PX, PX), (40, PX)])
def test_each_largest_square_is_read_as_it_is_in_the_image(tmp_path, height, width):
    own = picture(height, width)
    path, _ = write_images(tmp_path / "a", [own], px=PX)
    tiles = tile_pixels.open_tiles([path])
    assert (tiles.tile, tiles.image, tiles.px, tiles.ragged) == (["t0"], ["image-0"], PX, True)
    places = max(height, width) - PX + 1
    for place in range(places):
        down, right = (place, 0) if height > width else (0, place)
        # the middle of the share of [0, 1) that this place has
        [found] = tiles.read(np.array([0]), crops=np.array([(place + 0.5) / places], np.float32))
        assert (found == own[down : down + PX, right : right + PX]).all()
    assert (tiles.read() == patches.centred_square(own)).all()


def test_squares_are_drawn_uniformly_from_the_first_to_the_last(tmp_path):
    own = np.zeros((PX, PX + 3, 3), np.uint8)
    own[:] = np.arange(PX + 3)[None, :, None]
    path, _ = write_images(tmp_path / "a", [own], px=PX)
    crops = np.linspace(0, 1, 400, endpoint=False, dtype=np.float32)
    found = tile_pixels.open_tiles([path]).read(np.zeros(400, int), crops=crops)
    assert np.bincount(found[:, 0, 0, 0]).tolist() == [100, 100, 100, 100]
    last = np.array([np.nextafter(np.float32(1), np.float32(0))])
    assert tile_pixels.open_tiles([path]).read(np.array([0]), crops=last)[0, 0, 0, 0] == 3


def test_images_of_many_shapes_are_read_in_any_order(tmp_path):
    shapes = [(PX, 31), (17, PX), (PX, PX), (PX, 7), (PX + 1, PX)]
    pictures = [picture(*shape, seed=k) for k, shape in enumerate(shapes)]
    path, _ = write_images(tmp_path / "a", pictures, px=PX)
    tiles = tile_pixels.open_tiles([path])
    rows = np.array([4, 0, 2, 0, 1, 3])
    crops = np.array([0.0, 0.99, 0.5, 0.0, 0.99, 0.99])
    found = tiles.read(rows, crops=crops)
    expected = [
        pictures[4][:PX],
        pictures[0][:, -PX:],
        pictures[2],
        pictures[0][:, :PX],
        pictures[1][-PX:],
        pictures[3][:, -PX:],
    ]
    assert (found == np.array(expected)).all()
    streamed = [block for _, block in tile_pixels.stream(tiles, rows, 4, crops=crops)]
    assert (np.concatenate(streamed) == found).all()


def test_the_shorter_side_becomes_that_of_the_tiles():
    for height, width, expected in [
        (12, 30, (6, 15)),
        (30, 12, (15, 6)),
        (3, 4, (6, 8)),
        (1000, 1001, (6, 6)),
        (6, 9, (6, 9)),
        (2, 400, (6, 96)),
    ]:
        assert image_files.shortened(picture(height, width), PX).shape == (*expected, 3)
    # of a very long picture the middle is kept: 16 of 20 shorter sides
    own = np.repeat(np.arange(20, dtype=np.uint8), PX)[None, :, None] * np.ones((PX, 1, 3), np.uint8)
    found = image_files.shortened(own, PX)
    assert (found.shape, found[0, 0, 0], found[0, -1, 0]) == ((PX, 16 * PX, 3), 2, 17)


def test_a_resized_image_in_grey(tmp_path):
    own = np.full((30, 60, 3), (200, 40, 90), np.uint8)
    path, _ = write_images(tmp_path / "a", [own], grayscale=True, px=PX)
    # ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B = 93.5
    assert np.unique(tile_pixels.open_tiles([path]).read()).tolist() == [94]


def test_what_the_file_says(tmp_path):
    path, about = write_images(tmp_path / "a", [picture(PX, 9), picture(5, 5)], also=["missing.png"], px=PX)
    pixels = str(tmp_path / "pixels.h5")
    patches.write_part(pixels=pixels, crop=None, **about)
    with h5py.File(path) as file, h5py.File(pixels) as squares:
        assert file.attrs["status"] == "ok"
        assert file.attrs["upsampled"]
        assert file["length"][:].tolist() == [9, PX]
        assert file["excluded/reason"].asstr()[:].tolist() == ["no such file"]
        # the same tiles, by name, as the squares of the same sheet
        for key in ("tiles_digest", "status", "slide", "px", "kernel"):
            assert file.attrs[key] == squares.attrs[key]
        assert squares["excluded/tile"][:].tolist() == file["excluded/tile"][:].tolist()
    image_files.write_images(images=str(tmp_path / "again.h5"), **about)
    assert (tmp_path / "again.h5").read_bytes() == (tmp_path / "a/part-00.h5").read_bytes()


def test_a_part_without_images_has_a_status(tmp_path):
    path, _ = write_images(tmp_path / "a", [], also=["missing.png"], px=PX)
    with h5py.File(path) as file:
        assert (file.attrs["status"], file.attrs["reason"]) == ("no tiles", "none of 1 rows gave a tile")
    with pytest.raises(ValueError, match=r"found none in .*part-00\.h5"):
        tile_pixels.open_tiles([path])


def test_squares_and_images_are_not_mixed(tmp_path):
    path, about = write_images(tmp_path / "a", [picture(PX, 9)], px=PX)
    pixels = str(tmp_path / "squares.h5")
    patches.write_part(pixels=pixels, crop=None, **about)
    with pytest.raises(ValueError, match=r"squares\.h5: images at their own size are needed; found tiles of one size"):
        tile_pixels.open_tiles([path, pixels])
    with pytest.raises(ValueError, match="are those of kind patches; found kind points"):
        image_files.write_images(images=str(tmp_path / "b.h5"), **{**about, "kind": "points"})


@pytest.mark.parametrize(("name", "values"), [("length", [3]), ("start", [4]), ("start", [-1])])
def test_an_image_that_does_not_lie_in_its_file(tmp_path, name, values):
    path, _ = write_images(tmp_path / "a", [picture(PX, 9)], px=PX)
    with h5py.File(path, "a") as file:
        file[name][:] = values
    with pytest.raises(ValueError, match=r"part-00\.h5 is damaged.*images must be 6 rows or more of 9; found"):
        tile_pixels.open_tiles([path])
