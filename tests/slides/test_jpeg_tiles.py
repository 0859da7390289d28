"""JPEG tiles of a TIFF page: OpenSlide's pixels, whatever is kept between two rectangles; none of a page that lies."""

from __future__ import annotations

import numpy as np
import openslide
import pytest
import slide_factory
import tifffile

from histotransfer.slides import jpeg_tiles


@pytest.fixture
def path(tmp_path):
    return slide_factory.write_slide(tmp_path / "a.tif", size=(1024, 768), levels=False)


def overwrite(path, **tags):
    with tifffile.TiffFile(path, mode="r+") as file:
        for name, value in tags.items():
            file.pages[0].tags[name].overwrite(value)


def by_openslide(path):
    with openslide.OpenSlide(path) as slide:
        return np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))


def row_by_row(tiles, size, step):
    places = [(x, y) for y in range(0, 768 - size + 1, step) for x in range(0, 1024 - size + 1, step)]
    return {place: tiles.read(*place, size, size) for place in places}


@pytest.mark.parametrize("kept", [0, 1, 3, 100])
@pytest.mark.parametrize(("size", "step"), [(256, 256), (100, 100), (300, 150), (60, 200)])
def test_squares_are_openslides_however_much_is_kept(path, monkeypatch, kept, size, step):
    monkeypatch.setattr(jpeg_tiles, "KEPT_BYTES", kept * 256 * 256 * 3)
    whole = by_openslide(path)
    with open(path, "rb") as file:
        tiles = jpeg_tiles.jpeg_pages(file)[1024, 768]
        for (x, y), square in row_by_row(tiles, size, step).items():
            assert np.array_equal(square, whole[y : y + size, x : x + size])
        assert len(tiles._kept) <= kept


def test_a_tile_that_two_squares_share_is_decoded_once(path):
    whole = by_openslide(path)
    with open(path, "rb") as file:
        tiles = jpeg_tiles.jpeg_pages(file)[1024, 768]
        assert np.array_equal(tiles.read(0, 0, 200, 200), whole[:200, :200])
        with open(path, "r+b") as other:
            for offset, length in tiles._places:
                other.seek(offset)
                other.write(bytes(length))
        # from the page's first tile, which lies under both
        assert np.array_equal(tiles.read(200, 0, 56, 256), whole[:256, 200:256])
        # it has been read to its lower right corner
        assert tiles.read(200, 0, 56, 256) is None


def test_pixels_are_put_where_they_are_wanted(path):
    with open(path, "rb") as file:
        tiles = jpeg_tiles.jpeg_pages(file)[1024, 768]
        for x, y in ((256, 256), (100, 300)):
            out = np.zeros((256, 256, 3), np.uint8)
            tiles.read(x, y, 256, 256, out=out)
            assert np.array_equal(out, tiles.read(x, y, 256, 256))


def test_the_page_says_what_its_channels_are(path):
    """The streams say nothing of it; a wrong page gives wrong colours, and OpenSlide gives the same."""
    before = by_openslide(path)
    overwrite(path, PhotometricInterpretation=tifffile.PHOTOMETRIC.RGB)
    after = by_openslide(path)
    assert not np.array_equal(before, after)
    with open(path, "rb") as file:
        assert np.array_equal(jpeg_tiles.jpeg_pages(file)[1024, 768].read(0, 0, 1024, 768), after)


@pytest.mark.parametrize("tags", [{"TileWidth": 512}, {"TileLength": 128}, {"BitsPerSample": (8, 8, 16)}])
def test_a_page_that_lies_about_its_tiles_is_left_to_openslide(path, tags):
    overwrite(path, **tags)
    with open(path, "rb") as file:
        assert jpeg_tiles.jpeg_pages(file) == {}


def test_a_page_without_a_single_stream_is_left_to_openslide(path):
    overwrite(path, TileByteCounts=[0] * 12)
    with open(path, "rb") as file:
        assert jpeg_tiles.jpeg_pages(file) == {}
